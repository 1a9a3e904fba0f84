"""A small animated picture of a window for people to look at, and a still one for lists.

Made from the packed frames of the window, or from frames of the clip; with true display times to the end of the window.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import simplejpeg
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from caption_assets.settings.groups import PreviewSettings
from caption_assets.video.packed_frames import PackedFrames
from caption_assets.video.preview_format import (
    FORMATS,
    PreviewEncoder,
    PreviewFormat,
    check_preview,
    require_format,
)

__all__ = ["Preview", "PreviewWriter", "check_preview", "choose_frames", "make_preview"]

POSTER_SUFFIX = ".jpg"
POSTER_QUALITY = 80
"""Of the poster's JPEG, 1 to 100: it is one picture, so its size matters less than its looks."""

FLAT_DEVIATION = 6.0
"""Standard deviation of 8-bit values. A picture below it is black, white or a fade: nothing can be told from it."""

FALLBACK = FORMATS["webp"]
"""Takes pictures of any size from 1 x 1 on."""


@dataclass(frozen=True)
class Preview:
    """A file in `format` and its poster, a JPEG of the same size.

    `n_frames` counts the pictures in the file; in WebP equal neighbours are one. `warnings` are sentences for a person.
    """

    data: bytes
    width: int
    height: int
    n_frames: int
    warnings: tuple[str, ...]
    format: PreviewFormat
    poster: bytes


class PreviewWriter:
    """Makes one preview from pictures that come one after the other; memory holds one of them beside the encoder's.

    The poster is the picture nearest to the middle of the window that is not flat. The first picture would often be
    the end of a fade or what a cut left over; the middle is what a list should show of a window, and unlike the
    sharpest picture it needs no look at the others.
    """

    def __init__(
        self,
        start_s: float,
        end_s: float,
        rule: PreviewSettings,
        source_width: int,
        source_height: int,
        *,
        most_height: int | None = None,
        source_fps: float | None = None,
    ) -> None:
        """Begin the preview of a window.

        Args:
            start_s: seconds from the clip's first frame to the start of the window's first frame.
            end_s: seconds from the clip's first frame to the end of the window's last frame.
            rule: how it looks.
            source_width: of the clip's upright picture, in pixels: gives the shape, and is never exceeded.
            source_height: the same; below rule.target_height there is a warning.
            most_height: of the pictures that will come, where they are lower than the source.
            source_fps: frames a second of the clip; below rule.target_fps there is a warning.
        """
        self._start_s, self._middle_s, self._end_s = start_s, (start_s + end_s) / 2, end_s
        warnings = []
        if source_fps is not None and source_fps < rule.target_fps:
            warnings.append(f"the source has {source_fps:g} frames a second, below target_fps {rule.target_fps:g}")
        if source_height < rule.target_height:
            warnings.append(f"the source is {source_height} pixels high, below target_height {rule.target_height}")
        self._form = require_format(rule.preview_format)
        if min(source_width, source_height) < self._form.min_side:
            warnings.append(
                f"the source is {source_width}x{source_height} pixels, {self._form.name} has {self._form.min_side} a "
                f"side at least: written as {FALLBACK.name}"
            )
            self._form = FALLBACK
        self._warnings = tuple(warnings)
        height = min(rule.target_height, source_height, most_height or source_height)
        self.width, self.height = _fit(height, source_width / source_height, self._form)
        self._encoder = PreviewEncoder(
            self._form, self.width, self.height, rule.target_fps, rule.quality, rule.compression_level
        )
        self._last_ms = -1
        self._poster: tuple[tuple[bool, float], NDArray[np.uint8]] | None = None

    def add(self, rgb: NDArray[np.uint8], time_s: float) -> None:
        """Take the next picture, shown from `time_s` on (the first from the window's start).

        rgb: uint8 of shape (height, width, 3), of the preview's size or larger.
        """
        start_ms = 0 if self._last_ms < 0 else max(self._last_ms + 1, round((time_s - self._start_s) * 1000))
        self._encoder.add(rgb, start_ms)
        self._last_ms = start_ms
        rank = (_is_flat(rgb), abs(time_s - self._middle_s))
        if self._poster is None or rank < self._poster[0]:
            self._poster = rank, rgb

    def finish(self, *warnings: str) -> Preview:
        """Return the preview; `warnings` are added to its own.

        Raises:
            ValueError: no picture was added.
        """
        if self._poster is None:
            self.close()
            raise ValueError("a preview needs at least one picture")
        end_ms = max(round((self._end_s - self._start_s) * 1000), self._last_ms + 1)
        data, n_frames = self._encoder.finish(end_ms)
        poster = _jpeg(self._poster[1], self.width, self.height)
        return Preview(data, self.width, self.height, n_frames, (*self._warnings, *warnings), self._form, poster)

    def close(self) -> None:
        """Give up a preview that will not be finished."""
        self._encoder.close()


def make_preview(
    frames: PackedFrames,
    window_start_s: float,
    window_end_s: float,
    rule: PreviewSettings,
    *,
    source_fps: float | None = None,
    source_width: int | None = None,
    source_height: int | None = None,
    warnings: Sequence[str] = (),
) -> Preview:
    """Make the preview of a window from its packed frames.

    Args:
        frames: the packed frames of the window.
        window_start_s: seconds from the clip's first frame to the start of the window's first frame.
        window_end_s: seconds from the clip's first frame to the end of the window's last frame.
        rule: how it looks.
        source_fps: frames a second of the clip; below rule.target_fps there is a warning.
        source_width: of the clip's upright picture, for the exact shape; else that of the packed frames.
        source_height: the same; below rule.target_height there is a warning.
        warnings: sentences to be added to those of the preview.

    Raises:
        ValueError: there is no frame, or a packed frame is not a JPEG.
    """
    if not frames.jpegs:
        raise ValueError("a preview needs at least one packed frame")
    writer = PreviewWriter(
        window_start_s,
        window_end_s,
        rule,
        source_width or frames.width,
        source_height or frames.height,
        most_height=frames.height,
        source_fps=source_fps,
    )
    try:
        for index in choose_frames(frames.times_s, window_start_s, window_end_s, rule.target_fps):
            # The JPEG is decoded at the eighth that is just large enough.
            rgb = simplejpeg.decode_jpeg(frames.jpegs[index], "rgb", min_height=writer.height, min_width=writer.width)
            writer.add(rgb, frames.times_s[index])
        return writer.finish(*warnings)
    finally:
        writer.close()


def choose_frames(times_s: Sequence[float], start_s: float, end_s: float, target_fps: float) -> list[int]:
    """Return the indices of the frames nearest to start_s, start_s + 1 / target_fps, ... before end_s, each once.

    The earlier frame is taken on a tie. At least one frame is returned.
    """
    n_targets = max(1, math.ceil((end_s - start_s) * target_fps - 1e-6))
    chosen: list[int] = []
    index = 0
    for i in range(min(n_targets, 1 << 24)):
        target_s = start_s + i / target_fps
        while index + 1 < len(times_s) and abs(times_s[index + 1] - target_s) < abs(times_s[index] - target_s):
            index += 1
        if not chosen or chosen[-1] != index:
            chosen.append(index)
        if index + 1 == len(times_s):
            break
    return chosen


def _fit(height: int, shape: float, form: PreviewFormat) -> tuple[int, int]:
    """Return the (width, height) of a preview at most `height` high whose width is `shape` times that."""
    width = max(1, round(height * shape))
    if width > form.max_side:
        width, height = form.max_side, max(1, round(form.max_side / shape))
    if form.even_sides:
        width, height = width // 2 * 2, height // 2 * 2
    return max(width, form.min_side), max(height, form.min_side)


def _is_flat(rgb: NDArray[np.uint8]) -> bool:
    rows, columns = (max(1, side // 64) for side in rgb.shape[:2])
    return float(rgb[::rows, ::columns].std(axis=(0, 1)).max()) < FLAT_DEVIATION


def _jpeg(rgb: NDArray[np.uint8], width: int, height: int) -> bytes:
    small = VideoReformatter().reformat(
        VideoFrame.from_ndarray(rgb, format="rgb24"),
        width,
        height,
        format="rgb24",
        interpolation=Interpolation.AREA,
        threads=1,
    )
    pixels = np.ascontiguousarray(small.to_ndarray())
    return bytes(simplejpeg.encode_jpeg(pixels, quality=POSTER_QUALITY, colorsubsampling="420"))
