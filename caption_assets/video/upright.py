"""From a decoded frame to the picture that is shown: upright, square pixels, 8-bit RGB of full range."""

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter
from numpy.typing import NDArray

from caption_assets.video.probe import ClipFacts

YUV_8_BIT = frozenset(
    ("yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p", "yuv440p", "yuvj440p", "yuv411p", "yuv410p")
)
"""Formats scaled as they are and converted to RGB at the small size, which costs a quarter of the other order."""


FULL_FROM_LIMITED = np.clip((np.arange(256) - 16) * (255 / 219) + 0.5, 0, 255).astype(np.uint8)
"""8-bit luma of limited range, as index, to full range: the scaler passes gray through as it is."""


class UprightScaler:
    """Turns decoded frames of one clip into upright RGB pictures with square pixels.

    Rotation, mirroring and the shape of the pixels come from the clip's facts; colour range and matrix from each frame.
    A picture without a matrix is read as BT.601, whatever its size, as ffmpeg and the usual loaders do. HDR is not tone
    mapped. One scaler is kept for all frames of a size: making one for each frame costs more than the scaling.
    """

    def __init__(self, facts: ClipFacts) -> None:
        self._quarter_turns = -(facts.rotation // 90) % 4  # numpy turns counter-clockwise
        self._mirrored = facts.mirrored
        self._scale = VideoReformatter()
        self._to_rgb = VideoReformatter()

    def rgb(self, frame: VideoFrame, height: int, width: int) -> NDArray[np.uint8]:
        """Return the upright picture, uint8 of shape (height, width, 3), contiguous."""
        across, down = (height, width) if self._quarter_turns % 2 else (width, height)
        shrinks = across <= frame.width and down <= frame.height
        interpolation = Interpolation.AREA if shrinks else Interpolation.BICUBIC
        if frame.format.name in YUV_8_BIT:
            frame = self._scale.reformat(frame, across, down, interpolation=interpolation, threads=1)
        small = self._to_rgb.reformat(
            frame,
            across,
            down,
            format="rgb24",
            interpolation=interpolation,
            dst_color_range=ColorRange.JPEG,
            threads=1,
        )
        picture = small.to_ndarray()
        if frame.format.name.startswith("gray") and frame.color_range == ColorRange.MPEG:
            picture = FULL_FROM_LIMITED[picture]
        if self._mirrored:
            picture = picture[:, ::-1]
        return np.ascontiguousarray(np.rot90(picture, self._quarter_turns), dtype=np.uint8)
