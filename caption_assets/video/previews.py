"""Previews: a small animation of a window (WebP) and a still poster (JPEG), made from the window's packed frames."""

import hashlib
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import simplejpeg
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from caption_assets.ids import WindowId
from caption_assets.settings.groups import PreviewSettings
from caption_assets.video.frame_store import load_frames
from caption_assets.video.packed_frames import PackedFrames
from caption_assets.video.webp import MAX_SIDE, WebPWriter, stills

PREVIEW_SUFFIX, POSTER_SUFFIX = ".webp", ".jpg"

EARLIER_SUFFIXES = (".avif", ".mp4")
"""Versions up to 0.1 wrote previews in these formats too."""

POSTER_QUALITY = 80
"""JPEG quality of the poster, 1 to 100. It is a single picture, so its size matters less than its looks."""

FLAT_DEVIATION = 6.0
"""Standard deviation of 8-bit values. A picture below it is black, white or a fade: it shows nothing of the window."""


@dataclass(frozen=True)
class Preview:
    """A WebP animation and its poster, a JPEG of the same size.

    n_frames: pictures in the file, where equal neighbours are one picture. warnings: sentences for a person.
    """

    data: bytes
    width: int
    height: int
    n_frames: int
    warnings: tuple[str, ...]
    poster: bytes


@dataclass(frozen=True)
class PreviewJob:
    """A window to show.

    pack: its packed frames. folder: where the files go, under the window's id.
    start_s, end_s: seconds from the clip's first frame to the start of the window's first frame and to the end of its
    last one. source_fps, source_width, source_height: of the clip's upright picture.
    """

    window_id: WindowId
    pack: Path
    folder: Path
    start_s: float
    end_s: float
    rule: PreviewSettings
    source_fps: float
    source_width: int
    source_height: int


@dataclass(frozen=True)
class PreviewFiles:
    """The files of a preview, as the table `previews` records them."""

    sha256: str
    bytes: int
    width: int
    height: int
    n_frames: int
    poster_sha256: str
    poster_bytes: int
    warnings: tuple[str, ...]


def write_preview(job: PreviewJob) -> PreviewFiles:
    """Write the preview of a window and its poster. Runs in a worker process.

    Raises:
        FramesUnavailable: the packed frames are missing or damaged.
        ValueError: a packed frame is not a JPEG, or this machine's FFmpeg has no WebP encoder.
        OSError: the folder cannot be written.
    """
    preview = make_preview(
        load_frames(job.pack),
        job.start_s,
        job.end_s,
        job.rule,
        source_fps=job.source_fps,
        source_width=job.source_width,
        source_height=job.source_height,
    )
    job.folder.mkdir(parents=True, exist_ok=True)
    _write(job.folder / f"{job.window_id}{POSTER_SUFFIX}", preview.poster)
    _write(job.folder / f"{job.window_id}{PREVIEW_SUFFIX}", preview.data)
    return PreviewFiles(
        sha256=hashlib.sha256(preview.data).hexdigest(),
        bytes=len(preview.data),
        width=preview.width,
        height=preview.height,
        n_frames=preview.n_frames,
        poster_sha256=hashlib.sha256(preview.poster).hexdigest(),
        poster_bytes=len(preview.poster),
        warnings=preview.warnings,
    )


def make_preview(
    frames: PackedFrames,
    start_s: float,
    end_s: float,
    rule: PreviewSettings,
    *,
    source_fps: float | None = None,
    source_width: int | None = None,
    source_height: int | None = None,
) -> Preview:
    """Make the preview of a window from its packed frames, each shown at its own time until the window ends.

    The poster is the picture nearest to the middle of the window that is not flat: the first one is often the end of a
    fade or a leftover of a cut.

    Args:
        frames: the packed frames of the window, one or more.
        start_s: seconds from the clip's first frame to the start of the window's first frame.
        end_s: seconds from the clip's first frame to the end of the window's last frame.
        rule: how it looks.
        source_fps: frames a second of the clip; below rule.target_fps there is a warning.
        source_width: of the clip's upright picture, for the exact shape; that of the packed frames by default.
        source_height: the same; below rule.target_height there is a warning.

    Raises:
        ValueError: there is no frame, a packed frame is not a JPEG, or FFmpeg has no WebP encoder here.
    """
    if not frames.jpegs:
        raise ValueError("a preview needs at least one packed frame")
    source_width, source_height = source_width or frames.width, source_height or frames.height
    width, height = _fit(min(rule.target_height, source_height, frames.height), source_width / source_height)
    animation = WebPWriter(width, height, rule.quality, rule.compression_level)
    last_ms = -1
    poster: tuple[tuple[bool, float], NDArray[np.uint8]] | None = None
    for index in choose_frames(frames.times_s, start_s, end_s, rule.target_fps):
        # Decoded at the smallest eighth of its size that is not below the preview's.
        rgb = simplejpeg.decode_jpeg(frames.jpegs[index], "rgb", min_height=height, min_width=width)
        last_ms = 0 if last_ms < 0 else max(last_ms + 1, round((frames.times_s[index] - start_s) * 1000))
        animation.add(rgb, last_ms)
        rank = _is_flat(rgb), abs(frames.times_s[index] - (start_s + end_s) / 2)
        if poster is None or rank < poster[0]:
            poster = rank, rgb
    assert poster is not None
    data = animation.finish(max(round((end_s - start_s) * 1000), last_ms + 1))
    return Preview(
        data=data,
        width=width,
        height=height,
        n_frames=sum(1 for _ in stills(data)),
        warnings=tuple(_warnings(rule, source_fps, source_height)),
        poster=_jpeg(poster[1], width, height),
    )


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


def remove_leftovers(folder: Path) -> None:
    """Remove files that a killed run did not finish, and previews in earlier formats that a WebP has replaced."""
    for path in folder.iterdir() if folder.is_dir() else ():
        is_replaced = path.suffix in EARLIER_SUFFIXES and path.with_suffix(PREVIEW_SUFFIX).is_file()
        if is_replaced or (path.name.startswith(".") and path.suffix == ".tmp"):
            path.unlink(missing_ok=True)


def _fit(height: int, shape: float) -> tuple[int, int]:
    """Return the (width, height) of a preview at most `height` high whose width is `shape` times that."""
    width = max(1, round(height * shape))
    return (width, height) if width <= MAX_SIDE else (MAX_SIDE, max(1, round(MAX_SIDE / shape)))


def _warnings(rule: PreviewSettings, source_fps: float | None, source_height: int) -> list[str]:
    warnings = []
    if source_fps is not None and source_fps < rule.target_fps:
        warnings.append(f"the source has {source_fps:g} frames a second, below target_fps {rule.target_fps:g}")
    if source_height < rule.target_height:
        warnings.append(f"the source is {source_height} pixels high, below target_height {rule.target_height}")
    return warnings


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


def _write(path: Path, data: bytes) -> None:
    """Write a file under a temporary name and rename it, so that no reader sees half of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
