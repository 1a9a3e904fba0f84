"""Reckoned tokens, sizes and times are those of the models' own processors."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caption_assets.engines import families
from caption_assets.engines.chat_template import ChatTemplate, NoChatTemplate, read_chat_template
from caption_assets.engines.families import (
    FrameShape,
    InternVL,
    OtherVideoModel,
    QwenVL,
    SmolVLM,
    family_of,
    fit_image,
    fit_video,
    pair_times,
    video_clock,
)
from caption_assets.engines.frames import video_metadata
from caption_assets.engines.protocol import EngineUnavailable, Message, PackedFrames

TIMES = st.lists(st.floats(0, 90_000), min_size=1, max_size=40, unique_by=lambda time: round(time, 4)).map(sorted)


@given(TIMES)
def test_a_model_reads_the_true_times(times: list[float]):
    assert video_clock(times).times_s == pytest.approx(times, abs=1e-6)
    assert len(pair_times(times)) == (len(times) + 1) // 2


@given(st.floats(0, 1000), st.floats(0.01, 5), st.integers(2, 60))
def test_a_model_that_reads_only_a_rate_gets_the_mean_one(start: float, step: float, n: int):
    clock = video_clock([start + step * i for i in range(n)])
    assert clock.total / clock.fps / n == pytest.approx(step, rel=1e-4)


def test_frames_at_one_time_have_a_clock():
    assert video_clock([3.0]).total == video_clock([3.0, 3.0]).total // 2 == 1_000_000


# against Transformers, where it is installed


def importable() -> bool:
    try:
        import torchvision  # noqa: F401
        import transformers  # noqa: F401
    except (ImportError, RuntimeError):
        return False
    return True


needs_transformers = pytest.mark.skipif(not importable(), reason="Transformers is not installed")
SHAPES = [FrameShape(4, 252, 448), FrameShape(8, 256, 320), FrameShape(18, 1036, 584), FrameShape(6, 512, 1024)]


@pytest.fixture(scope="module")
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.engines.tiny_checkpoint import make_checkpoint

    return make_checkpoint(tmp_path_factory.mktemp("tiny") / request.param, request.param)


def checkpoints_of(*families: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("checkpoint", families, indirect=True, scope="module")


def processed(folder: Path, prompt: str, frames: PackedFrames, options: dict[str, object]) -> Any:
    import numpy as np
    from transformers import AutoProcessor
    from transformers.video_utils import VideoMetadata

    metadata = VideoMetadata(**video_metadata(frames))
    video = np.zeros((len(frames.jpegs), frames.height, frames.width, 3), np.uint8)
    return AutoProcessor.from_pretrained(folder)(
        text=[prompt], videos=[video], video_metadata=[metadata], do_sample_frames=False, **options
    )


@needs_transformers
@checkpoints_of("qwen3_vl", "qwen2_5_vl")
@pytest.mark.parametrize("resize", [False, True], ids=["our size", "its own size"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_reckoned_tokens_and_grids_are_those_of_the_processor(checkpoint: Path, shape: FrameShape, resize: bool):
    from transformers import AutoTokenizer

    family = family_of(checkpoint, resize=resize)
    assert isinstance(family, QwenVL)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    times = [7.25 + 0.37 * i for i in range(shape.frames)]
    frames = PackedFrames([b""] * shape.frames, times, shape.width, shape.height)
    chat = ChatTemplate(tokenizer, read_chat_template(checkpoint), family)
    prompt = chat.render([Message("system", "Be brief."), Message("user", "What {is}\\this?", True)], frames)

    made = processed(checkpoint, prompt, frames, family.processor_options(shape))

    pairs, rows, columns = family.grid(shape)
    assert made["video_grid_thw"][0].tolist() == [pairs, 2 * rows, 2 * columns]
    reckoned = family.prompt_tokens(
        prompt, shape, times, lambda text: len(tokenizer.encode(text, add_special_tokens=False))
    )
    assert reckoned == len(made["input_ids"][0])
    text = tokenizer.decode(made["input_ids"][0])
    if family.prints_times:
        assert f"<{(times[0] + times[1]) / 2:.1f} seconds>" in text
    else:
        assert made["second_per_grid_ts"][0] == pytest.approx(2 * 0.37, rel=1e-4)


@needs_transformers
@checkpoints_of("internvl", "smolvlm")
@pytest.mark.parametrize("shape", [*SHAPES, FrameShape(1, 96, 64), FrameShape(23, 64, 640)], ids=str)
def test_the_prompt_with_frames_is_the_one_that_the_model_s_own_video_processor_makes(
    checkpoint: Path, shape: FrameShape
):
    """Word by word: SmolVLM2's frames go as images, so what it reads around those of a video is ours to write."""
    import numpy as np
    from transformers import AutoProcessor
    from transformers.video_utils import VideoMetadata

    family = family_of(checkpoint)
    assert isinstance(family, (InternVL, SmolVLM))
    processor = AutoProcessor.from_pretrained(checkpoint)
    template = read_chat_template(checkpoint)
    times = [3659.25 + 0.37 * i for i in range(shape.frames)]
    frames = PackedFrames([b""] * shape.frames, times, shape.width, shape.height)
    turns = [Message("system", "Be brief."), Message("user", "What {is}\\this?", True)]
    ours = ChatTemplate(processor.tokenizer, template, family).render(turns, frames)
    pictures = np.random.default_rng(1).integers(0, 255, (shape.frames, shape.height, shape.width, 3), np.uint8)

    metadata = VideoMetadata(**video_metadata(frames))
    theirs = processor.tokenizer.apply_chat_template(
        [
            {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
            {"role": "user", "content": [{"type": "video"}, {"type": "text", "text": "What {is}\\this?"}]},
        ],
        chat_template=template,
        tokenize=False,
        add_generation_prompt=True,
    )
    wanted = processor(
        text=[theirs], videos=[[pictures]], video_metadata=[[metadata]], do_sample_frames=False, return_tensors="pt"
    )
    if family.frames_as == "video":
        assert ours == theirs
    else:
        images = {"images": [[*pictures.transpose(0, 3, 1, 2)]], "images_kwargs": family.processor_options(shape)}
        made = processor(text=[ours], return_tensors="pt", **images)
        assert processor.tokenizer.decode(made["input_ids"][0]) == processor.tokenizer.decode(wanted["input_ids"][0])
        assert made["pixel_values"].equal(wanted["pixel_values"])
    reckoned = family.prompt_tokens(
        ours, shape, times, lambda text: len(processor.tokenizer.encode(text, add_special_tokens=False))
    )
    assert reckoned == wanted["input_ids"].shape[-1]


# the arithmetic alone


def test_internvl_has_a_tile_a_frame():
    family = InternVL(256)
    tokens = family.prompt_tokens(
        "<video>\nDescribe.", FrameShape(3, 448, 448), [0, 1, 2], lambda text: text.count("<")
    )
    assert tokens == 3 * 3 + 3 * 255, "counted as img, IMG_CONTEXT and /img; 256 contexts a frame"


@pytest.mark.parametrize(
    ("between", "written"), [("\n", "Frame1: <img><IMG_CONTEXT></img>\nFrame2: "), ("", "</img>Frame2: ")]
)
def test_internvl_numbers_frames_as_its_format_does(between: str, written: str):
    seen = []
    InternVL(4, between).prompt_tokens("<video>", FrameShape(2, 56, 56), [0, 1], lambda text: seen.append(text) or 0)
    assert written in seen[0]


def test_smolvlm_sees_images_and_reads_when_they_are_from():
    family = SmolVLM(64, 512)
    first, second, end = family.frame_captions([59.9, 61.0])
    assert first == (
        "You are provided the following series of two frames from a 0:00:02 [H:MM:SS] video.\n\nFrame from 00:59:"
    )
    assert (second, end) == ("\nFrame from 01:01:", "\n\n")
    tokens = family.prompt_tokens("<image>a<image>", FrameShape(2, 288, 512), [0, 1], lambda text: text.count("<"))
    assert tokens == 2 * (3 + 64)


@pytest.mark.parametrize(
    ("config", "family"),
    [
        (
            {"model_type": "internvl_chat", "force_image_size": 448, "vision_config": {"patch_size": 14}},
            InternVL(256, ""),
        ),
        ({"model_type": "internvl", "image_seq_length": 256, "vision_config": {}}, InternVL(256)),
        ({"model_type": "smolvlm", "vision_config": {"image_size": 512, "patch_size": 16}}, SmolVLM(64, 512)),
        ({"model_type": "llava_next_video", "vision_config": {}}, OtherVideoModel()),
        ({"model_type": "qwen3"}, None),
        ({"model_type": "qwen3_vl", "vision_config": {"patch_size": 16}}, QwenVL(32, 131072, 25165824, True, True)),
        ({"model_type": "qwen2_5_vl", "vision_config": {}}, QwenVL(28, 100352, 602112, False, False)),
    ],
)
def test_a_family_is_read_from_a_folder(tmp_path: Path, config: dict[str, Any], family: object):
    import json

    (tmp_path / "config.json").write_text(json.dumps(config))
    assert family_of(tmp_path) == family


def test_a_package_that_a_family_needs_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "config.json").write_text('{"model_type": "smolvlm", "vision_config": {}}')
    monkeypatch.setattr(families, "find_spec", lambda name: None)
    with pytest.raises(EngineUnavailable, match="pip install num2words"):
        family_of(tmp_path)


def test_sizes_at_the_limits():
    assert fit_image(1080, 1920, 28, 100_352, 602_112) == (560, 1008)
    assert fit_image(10, 20, 28, 100_352, 602_112) == (224, 448)
    assert fit_video(FrameShape(18, 1080, 1920), 32, 4096, 25_165_824) == (864, 1568)
    with pytest.raises(ValueError, match="aspect ratio"):
        fit_image(28, 28 * 300, 28, 1, 10**9)


class Templating:
    """A tokenizer that renders as `how` does."""

    def __init__(self, how: Any):
        self._how = how

    def apply_chat_template(self, turns: list[dict[str, Any]], **options: object) -> str:
        assert options["enable_thinking"] is False
        return "".join(self._how(turn["content"]) for turn in turns)


FRAMES = PackedFrames([b"", b""], [1.0, 2.0], 8, 8)
ASK = [Message("user", "hm", True)]


def parts(content: Any) -> str:
    return "".join(part.get("text", f"<{part['type']}>") for part in content)


def test_a_template_gets_turns_in_the_way_that_loses_nothing():
    assert ChatTemplate(Templating(parts), "", InternVL(1)).render(ASK, FRAMES) == "<video>hm"
    only_text = Templating(lambda content: content if isinstance(content, str) else "")
    assert ChatTemplate(only_text, "", InternVL(1)).render(ASK, FRAMES) == "<video>\nhm"
    assert ChatTemplate(only_text, "", None).render([Message("user", '{"a": "\\"}')], None) == '{"a": "\\"}'
    rendered = ChatTemplate(Templating(parts), "", SmolVLM(1, 1)).render(ASK, FRAMES)
    assert rendered.count("<image>") == 2
    assert rendered.endswith("Frame from 00:02:<image>\n\nhm")
    with pytest.raises(NoChatTemplate, match="loses the text or the video"):
        ChatTemplate(Templating(lambda content: ""), "", InternVL(1))
    with pytest.raises(NoChatTemplate, match="no chat template"):
        ChatTemplate(only_text, None, None)
