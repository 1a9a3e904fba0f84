"""Packed frames as models in this process take them: pixels, and the metadata that tell their times."""

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt
import simplejpeg

from caption_assets.engines.families import FrameShape, QwenVL, video_clock
from caption_assets.engines.protocol import PackedFrames

PROBE_FRAMES, PROBE_PAIR_S = 4, 2.0
"""Frames of the video that a model's processor is tried out with, a second apart, so that pairs of them are two."""


def decode_frames(frames: PackedFrames) -> npt.NDArray[np.uint8]:
    """Return the frames as one array (frames, height, width, 3), red first.

    Raises:
        ValueError: a frame cannot be read, or has another size.
    """
    pixels = np.empty((len(frames.jpegs), frames.height, frames.width, 3), np.uint8)
    for position, jpeg in enumerate(frames.jpegs):
        name = f"frame {position + 1} of {len(frames.jpegs)}"
        try:
            picture = simplejpeg.decode_jpeg(jpeg, colorspace="RGB")
        except ValueError as error:
            raise ValueError(f"{name} is no readable JPEG: {error}") from error
        height, width = picture.shape[:2]
        if (height, width) != (frames.height, frames.width):
            raise ValueError(f"{name} has {width}x{height} pixels, not {frames.width}x{frames.height}")
        pixels[position] = picture
    return pixels


def frames_digest(frames: PackedFrames) -> str:
    """Return a name for frames made of their bytes, times and size (BLAKE2b: about 1 ms per MB)."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(repr((frames.width, frames.height, [float(time) for time in frames.times_s])).encode())
    for jpeg in frames.jpegs:
        digest.update(len(jpeg).to_bytes(8, "little"))
        digest.update(jpeg)
    return digest.hexdigest()


def video_metadata(frames: PackedFrames) -> dict[str, Any]:
    """Return what the video processors of Transformers are told about frames that were sampled before."""
    clock = video_clock(frames.times_s)
    return {
        "fps": clock.fps,
        "duration": clock.total / clock.fps,
        "total_num_frames": clock.total,
        "frames_indices": list(clock.indices),
        "video_backend": "packed",
    }


def probe_video(family: QwenVL) -> tuple[PackedFrames, npt.NDArray[np.uint8], FrameShape]:
    """Return a small black video, its pixels (frames, height, width, 3) and its shape, to try a processor out with.

    Its pixels are ready: the JPEGs are empty.
    """
    shape = FrameShape(PROBE_FRAMES, family.factor, family.factor)
    times_s = [i * PROBE_PAIR_S / 2 for i in range(PROBE_FRAMES)]
    frames = PackedFrames([b""] * PROBE_FRAMES, times_s, shape.width, shape.height)
    return frames, np.zeros((shape.frames, shape.height, shape.width, 3), np.uint8), shape
