"""How families of models see a window: what stands in the prompt for its frames, and how many tokens that is.

The rules are those of the models' own processors in Transformers, as plain arithmetic over the settings in a model's
folder, so that a request's length is known before anything is sent. A family without a rule still runs, through its
chat template; its length is then not known beforehand.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Protocol, Self

from caption_assets.engines.protocol import EngineUnavailable, PackedFrames
from caption_assets.video.budget import FRAMES_PER_TOKEN, MAX_ASPECT_RATIO

TICKS_PER_SECOND = 1_000_000
"""Frames travel with a rate of a million a second and microseconds as indices: any time can be told."""

SMOLVLM_INTRO = "You are provided the following series of {frames} frames from a {duration} [H:MM:SS] video.\n"
SMOLVLM_FRAME = "\nFrame from {minutes:02d}:{seconds:02d}:"
SMOLVLM_OUTRO = "\n\n"
"""What SmolVLM2's own processor writes around the frames of a video."""

CountTokens = Callable[[str], int]
"""Tokens of a text, special tokens read as such."""


@dataclass(frozen=True)
class FrameShape:
    """Frames of a window as a processor gets them: how many, and their size in pixels."""

    frames: int
    height: int
    width: int

    @classmethod
    def of(cls, frames: PackedFrames) -> Self:
        """Return the shape of packed frames."""
        return cls(len(frames.jpegs), frames.height, frames.width)


@dataclass(frozen=True)
class VideoClock:
    """Metadata of a video from which a model reads the true times of its frames.

    Qwen3-VL reads `indices[i] / fps`; Qwen2.5-VL reads the mean distance, `total / fps / len(indices)`.
    """

    fps: float
    indices: tuple[int, ...]
    total: int

    @property
    def times_s(self) -> list[float]:
        """Seconds of each frame, as a model reads them."""
        return [index / self.fps for index in self.indices]


def video_clock(times_s: Sequence[float]) -> VideoClock:
    """Return metadata that tell `times_s` (seconds, ascending) to a model, to the microsecond."""
    indices = tuple(round(time * TICKS_PER_SECOND) for time in times_s)
    gaps = len(indices) - 1
    step = (indices[-1] - indices[0]) / gaps if gaps and indices[-1] > indices[0] else TICKS_PER_SECOND
    return VideoClock(float(TICKS_PER_SECOND), indices, max(1, round(step * len(indices))))


class Family(Protocol):
    """What a family does with the frames of a window.

    frames_as: whether the model takes them as one video or as a row of images.
    placeholder: what stands for the video (or one image) in the prompt, for chat templates that only take text.
    """

    @property
    def frames_as(self) -> Literal["video", "images"]:
        """One video, or a row of images."""
        ...

    @property
    def placeholder(self) -> str:
        """Text that stands for the video, or for one image."""
        ...

    def processor_options(self, shape: FrameShape) -> dict[str, object]:
        """Return the options of the processor that leave frames of this shape as they are, where it can."""
        ...

    def frame_captions(self, times_s: Sequence[float]) -> list[str]:
        """Return the texts before each image and after the last, where frames go as images."""
        ...

    def prompt_tokens(self, prompt: str, shape: FrameShape, times_s: Sequence[float], count: CountTokens) -> int | None:
        """Return the tokens of a rendered prompt with the frames in place, None where there is no rule."""
        ...


@dataclass(frozen=True)
class QwenVL:
    """Qwen2-VL, Qwen2.5-VL and Qwen3-VL: a token for each block of 2 frames by `factor` x `factor` pixels.

    factor: pixels, patch side times merge. min_pixels, max_pixels: the processor's own limits, of a frame, or of all
        frames together where `whole_video`.
    prints_times: Qwen3-VL, which writes `<t seconds>` and markers around each pair of frames.
    keeps_markers: whether the markers that the chat template puts around the video stay there too (since
        Transformers 5.10).
    resize: let the processor choose the size again.
    """

    factor: int
    min_pixels: int
    max_pixels: int
    whole_video: bool
    prints_times: bool
    keeps_markers: bool = True
    resize: bool = False
    frames_as: Literal["video", "images"] = "video"
    placeholder: str = "<|vision_start|><|video_pad|><|vision_end|>"

    def processor_options(self, shape: FrameShape) -> dict[str, object]:
        """Return `do_resize`: off for frames that are multiples of the factor, unless the model is to choose."""
        return {"do_resize": self._resizes(shape)}

    def frame_captions(self, times_s: Sequence[float]) -> list[str]:
        """Return nothing: the model's processor writes the times."""
        del times_s
        return []

    def grid(self, shape: FrameShape) -> tuple[int, int, int]:
        """Return (pairs of frames, rows, columns) of visual tokens."""
        height, width = self._resized(shape) if self._resizes(shape) else (shape.height, shape.width)
        return math.ceil(shape.frames / FRAMES_PER_TOKEN), height // self.factor, width // self.factor

    def prompt_tokens(self, prompt: str, shape: FrameShape, times_s: Sequence[float], count: CountTokens) -> int | None:
        """Return the tokens of text, times, markers and frames together."""
        pairs, rows, columns = self.grid(shape)
        if not self.prints_times:
            return count(prompt) - 1 + pairs * rows * columns
        printed = "".join(
            f"<{time:.1f} seconds><|vision_start|><|video_pad|><|vision_end|>" for time in pair_times(times_s)
        )
        markers = 0 if self.keeps_markers else 2
        return count(prompt.replace("<|video_pad|>", printed, 1)) - markers + pairs * (rows * columns - 1)

    def _resizes(self, shape: FrameShape) -> bool:
        return self.resize or bool(shape.height % self.factor or shape.width % self.factor)

    def _resized(self, shape: FrameShape) -> tuple[int, int]:
        if self.whole_video:
            return fit_video(shape, self.factor, self.min_pixels, self.max_pixels)
        return fit_image(shape.height, shape.width, self.factor, self.min_pixels, self.max_pixels)


@dataclass(frozen=True)
class InternVL:
    """InternVL 2 to 3.5: each frame is one tile of a fixed number of tokens, with its number before it.

    between_frames: a new line in Transformers' own format (`internvl`), nothing in the makers' (`internvl_chat`), of
        which vLLM has the processor.
    """

    tokens_per_frame: int
    between_frames: str = "\n"
    placeholder: str = "<video>"
    frames_as: Literal["video", "images"] = "video"

    def processor_options(self, shape: FrameShape) -> dict[str, object]:
        """Return nothing: tiles have a fixed size."""
        del shape
        return {}

    def frame_captions(self, times_s: Sequence[float]) -> list[str]:
        """Return nothing: the model's processor numbers the frames."""
        del times_s
        return []

    def prompt_tokens(self, prompt: str, shape: FrameShape, times_s: Sequence[float], count: CountTokens) -> int | None:
        """Return the tokens of text, frame numbers, markers and frames together."""
        del times_s
        numbered = self.between_frames.join(f"Frame{i + 1}: <img><IMG_CONTEXT></img>" for i in range(shape.frames))
        return count(prompt.replace(self.placeholder, numbered, 1)) + shape.frames * (self.tokens_per_frame - 1)


@dataclass(frozen=True)
class SmolVLM:
    """SmolVLM2: frames go as images with the words that its own processor writes around the frames of a video."""

    tokens_per_frame: int
    frame_side: int
    placeholder: str = "<image>"
    frames_as: Literal["video", "images"] = "images"

    def processor_options(self, shape: FrameShape) -> dict[str, object]:
        """Return the options for frames: one tile of the side that videos have, not cut into several."""
        del shape
        return {"do_image_splitting": False, "size": {"longest_edge": self.frame_side}}

    def frame_captions(self, times_s: Sequence[float]) -> list[str]:
        """Return the introduction with the first time, the other times, and what follows the last frame."""
        from num2words import num2words

        clock = video_clock(times_s)
        duration = timedelta(seconds=int(clock.total / clock.fps))
        seconds = [int(time) for time in clock.times_s]
        captions = [SMOLVLM_FRAME.format(minutes=second // 60, seconds=second % 60) for second in seconds]
        captions[0] = SMOLVLM_INTRO.format(frames=num2words(len(seconds)), duration=duration) + captions[0]
        return [*captions, SMOLVLM_OUTRO]

    def prompt_tokens(self, prompt: str, shape: FrameShape, times_s: Sequence[float], count: CountTokens) -> int | None:
        """Return the tokens of text, markers and frames together."""
        del times_s
        marked = "<fake_token_around_image><global-img><image><fake_token_around_image>"
        return count(prompt.replace(self.placeholder, marked)) + shape.frames * (self.tokens_per_frame - 1)


@dataclass(frozen=True)
class OtherVideoModel:
    """A family without a rule: frames go as a video, through its chat template, with its processor's defaults."""

    placeholder: str = "<video>"
    frames_as: Literal["video", "images"] = "video"

    def processor_options(self, shape: FrameShape) -> dict[str, object]:
        """Return nothing."""
        del shape
        return {}

    def frame_captions(self, times_s: Sequence[float]) -> list[str]:
        """Return nothing."""
        del times_s
        return []

    def prompt_tokens(self, prompt: str, shape: FrameShape, times_s: Sequence[float], count: CountTokens) -> int | None:
        """Return None."""
        del prompt, shape, times_s, count
        return None


def family_of(folder: Path, *, resize: bool = False) -> Family | None:
    """Return the family of the model in `folder`, None for one that sees nothing.

    Args:
        folder: of a checkpoint, with its config and processor files.
        resize: let the processor choose the size of frames again, where the family knows how to leave it.

    Raises:
        EngineUnavailable: a package that the family needs is not installed.
    """
    config = read_json(folder / "config.json")
    processor = _processor_settings(folder)
    kind = str(config.get("model_type", ""))
    name = str(processor.get("processor_class", ""))
    vision = config.get("vision_config") or {}
    if name.startswith("Qwen3VL") or kind.startswith("qwen3_vl"):
        return _qwen(vision, processor, default_patch=16, resize=resize, prints_times=True)
    if name.startswith(("Qwen2VL", "Qwen2_5_VL")) or kind in ("qwen2_vl", "qwen2_5_vl"):
        return _qwen(vision, processor, default_patch=14, resize=resize, prints_times=False)
    if kind.startswith("internvl"):
        return InternVL(_internvl_tokens(config), "" if kind == "internvl_chat" else "\n")
    if kind in ("smolvlm", "idefics3"):
        return _smolvlm(config, processor)
    sees = any(key in config for key in ("vision_config", "visual", "vision_tower", "mm_vision_tower"))
    return OtherVideoModel() if sees else None


def context_length(folder: Path) -> int | None:
    """Return the longest text that the model in `folder` was made for, None where its config does not say."""
    config = read_json(folder / "config.json")
    for part in (config, *(config.get(name) or {} for name in ("text_config", "llm_config", "language_config"))):
        if part.get("max_position_embeddings"):
            return int(part["max_position_embeddings"])
    return None


def pair_times(times_s: Sequence[float]) -> list[float]:
    """Return the mean time of each pair of frames, as Qwen3-VL prints it; an odd last frame counts twice."""
    times = video_clock(times_s).times_s
    padded = [*times, *times[-1:]] if len(times) % FRAMES_PER_TOKEN else times
    return [(padded[i] + padded[i + 1]) / 2 for i in range(0, len(padded), FRAMES_PER_TOKEN)]


def fit_image(height: int, width: int, factor: int, min_pixels: int, max_pixels: int) -> tuple[int, int]:
    """Return (height, width) as the processors of Qwen2-VL choose them (`smart_resize`).

    Raises:
        ValueError: the aspect ratio is above 200.
    """
    _check_aspect(height, width)
    rows, columns = round(height / factor) * factor, round(width / factor) * factor
    if rows * columns > max_pixels:
        beta = math.sqrt(height * width / max_pixels)
        return max(factor, _down(height / beta, factor)), max(factor, _down(width / beta, factor))
    if rows * columns < min_pixels:
        beta = math.sqrt(min_pixels / (height * width))
        return _up(height * beta, factor), _up(width * beta, factor)
    return rows, columns


def fit_video(shape: FrameShape, factor: int, min_pixels: int, max_pixels: int) -> tuple[int, int]:
    """Return (height, width) as the video processor of Qwen3-VL chooses them: limits hold for all frames together.

    Raises:
        ValueError: the aspect ratio is above 200.
    """
    height, width = shape.height, shape.width
    if height < factor or width < factor:
        scale = max(factor / height, factor / width)
        height, width = int(height * scale), int(width * scale)
    _check_aspect(height, width)
    rows, columns = round(height / factor) * factor, round(width / factor) * factor
    frames = round(shape.frames / FRAMES_PER_TOKEN) * FRAMES_PER_TOKEN
    if frames * rows * columns > max_pixels:
        beta = math.sqrt(shape.frames * height * width / max_pixels)
        return max(factor, _down(height / beta, factor)), max(factor, _down(width / beta, factor))
    if frames * rows * columns < min_pixels:
        beta = math.sqrt(min_pixels / (shape.frames * height * width))
        return _up(height * beta, factor), _up(width * beta, factor)
    return rows, columns


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file, {} where there is no such file."""
    if not path.is_file():
        return {}
    value = json.loads(path.read_text(encoding="utf-8"))
    return value if isinstance(value, dict) else {}


def _processor_settings(folder: Path) -> dict[str, Any]:
    """Return the settings of a model's processor; those for video win over those for images."""
    whole = read_json(folder / "processor_config.json")
    images = {**read_json(folder / "preprocessor_config.json"), **(whole.get("image_processor") or {})}
    videos = {**read_json(folder / "video_preprocessor_config.json"), **(whole.get("video_processor") or {})}
    return {**images, **whole, **videos, "processor_class": _processor_class(whole, videos, images)}


def _processor_class(*settings: Mapping[str, Any]) -> str:
    return next((str(found["processor_class"]) for found in settings if found.get("processor_class")), "")


def _qwen(
    vision: Mapping[str, Any], processor: Mapping[str, Any], *, default_patch: int, resize: bool, prints_times: bool
) -> QwenVL:
    patch = int(processor.get("patch_size") or vision.get("patch_size") or default_patch)
    merge = int(processor.get("merge_size") or vision.get("spatial_merge_size") or 2)
    size = processor.get("size") or {}
    factor = patch * merge
    shortest, longest = (128 * 32 * 32, 768 * 32 * 32 * 32) if prints_times else (128 * 28 * 28, 28 * 28 * 768)
    return QwenVL(
        factor=factor,
        min_pixels=int(processor.get("min_pixels") or size.get("shortest_edge") or shortest),
        max_pixels=int(processor.get("max_pixels") or size.get("longest_edge") or longest),
        whole_video=prints_times,
        prints_times=prints_times,
        resize=resize,
    )


def _internvl_tokens(config: Mapping[str, Any]) -> int:
    """Return the tokens of a tile: patches of a side, squared, times the downsampling ratio squared."""
    if "image_seq_length" in config:
        return int(config["image_seq_length"])
    vision = config.get("vision_config") or {}
    side = int(config.get("force_image_size") or _first(vision.get("image_size"), 448))
    patch = _first(vision.get("patch_size"), 14)
    return round((side // patch) ** 2 * float(config.get("downsample_ratio", 0.5)) ** 2)


def _smolvlm(config: Mapping[str, Any], processor: Mapping[str, Any]) -> SmolVLM:
    if find_spec("num2words") is None:
        raise EngineUnavailable("SmolVLM2 reads numbers as words, by a package that is missing: pip install num2words")
    vision = config.get("vision_config") or {}
    side = int((processor.get("max_image_size") or {}).get("longest_edge") or vision.get("image_size") or 512)
    patches = side // int(vision.get("patch_size", 16))
    tokens = int(processor.get("image_seq_len") or (patches // int(config.get("scale_factor", 4))) ** 2)
    return SmolVLM(tokens, side)


def _first(value: Any, default: int) -> int:
    return int(value[0] if isinstance(value, list) else value or default)


def _check_aspect(height: int, width: int) -> None:
    if max(height, width) / min(height, width) > MAX_ASPECT_RATIO:
        raise ValueError(f"the aspect ratio of {width}x{height} is above {MAX_ASPECT_RATIO}")


def _down(value: float, factor: int) -> int:
    return math.floor(value / factor) * factor


def _up(value: float, factor: int) -> int:
    return math.ceil(value / factor) * factor
