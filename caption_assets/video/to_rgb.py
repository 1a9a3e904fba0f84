"""From a decoded frame to the picture that is shown: upright, square pixels, progressive, 8-bit RGB of full range."""

import re
import struct
from functools import lru_cache
from typing import cast

import numpy as np
from av.sidedata.sidedata import SideDataContainer
from av.sidedata.sidedata import Type as SideDataType
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray

from caption_assets.video import tone
from caption_assets.video.deinterlace import FieldSplitter, combed_blocks, mix
from caption_assets.video.probe import ClipFacts

PLANAR_YUV = re.compile(r"yuvj?(?P<chroma>4\d\d)p(?P<depth>\d*)(?:le|be)?")

OTHER_YUV = {
    "nv12": "yuv420p", "nv21": "yuv420p", "p010le": "yuv420p",
    "nv16": "yuv422p", "yuyv422": "yuv422p", "uyvy422": "yuv422p", "yvyu422": "yuv422p",
    "nv24": "yuv444p",
}  # fmt: skip
"""Formats of other layouts, and the planar one of 8 bits that holds the same chroma."""

READABLE_MATRICES = frozenset((0, 1, 2, 4, 5, 6, 7, 9))
"""Code points of ISO/IEC 23091-2 that the scaler takes; it refuses a frame with any other."""

FULL_FROM_LIMITED = np.clip((np.arange(256) - 16) * (255 / 219) + 0.5, 0, 255).astype(np.uint8)
"""8-bit luma of limited range, as index, to full range: the scaler passes gray through as it is."""


class UprightScaler:
    """Turns decoded frames of one clip into upright RGB pictures with square pixels.

    Rotation, mirroring and the shape of the pixels come from the clip's facts. Everything else comes from each frame:
    colour range and matrix, HDR and wide gamut, brought to SDR at the small size (see `tone`), interlacing (see
    `deinterlace`), and alpha: what is behind the picture is black, as in most players. A picture without a matrix is
    read as BT.601, whatever its size, as ffmpeg and the usual loaders do; Y'CbCr without a range as limited, gray as
    full.

    One scaler is kept for all frames of a size: making one for each frame costs more than the scaling.
    """

    def __init__(self, facts: ClipFacts) -> None:
        self._quarter_turns = -(facts.rotation // 90) % 4  # numpy turns counter-clockwise
        self._mirrored = facts.mirrored
        self._progressive = _Scaler()
        self._field = _Scaler()
        self._splitter = FieldSplitter()

    def rgb(self, frame: VideoFrame, height: int, width: int) -> NDArray[np.uint8]:
        """Return the upright picture, uint8 of shape (height, width, 3), contiguous."""
        across, down = (height, width) if self._quarter_turns % 2 else (width, height)
        if frame.interlaced_frame:
            picture = self._deinterlaced(frame, down, across)
        else:
            picture = self._progressive.rgb(frame, down, across)
        return self._turned(picture)

    def _turned(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if self._mirrored:
            picture = picture[:, ::-1]
        return np.ascontiguousarray(np.rot90(picture, self._quarter_turns), dtype=np.uint8)

    def _deinterlaced(self, frame: VideoFrame, height: int, width: int) -> NDArray[np.uint8]:
        whole = self._splitter.woven(frame)
        woven = self._progressive.rgb(whole, height, width)
        combed = combed_blocks(self._progressive.luma(whole))
        if not combed.any():
            return woven
        field, is_top = self._splitter.first(frame)
        # The lines of a field lie half a line of the frame above, or below, the middles of the pairs they stand for.
        shift = 0.5 * height / frame.height
        lines = self._field.rgb(field, height, width)
        return mix(woven, lines, combed, -shift if is_top else shift)


class _Scaler:
    """Scales progressive frames to 8-bit RGB. The order of the steps keeps the work at full size small."""

    def __init__(self) -> None:
        self._scale = VideoReformatter()
        self._to_rgb = VideoReformatter()
        self._to_rgba = VideoReformatter()
        self._to_gray = VideoReformatter()

    def rgb(self, frame: VideoFrame, height: int, width: int) -> NDArray[np.uint8]:
        """Return the picture of shape (height, width, 3)."""
        name = frame.format.name
        if _has_alpha(name):
            frame = self._on_black(frame)
            name = frame.format.name
        toned = tone.needs_tone(frame.color_trc, frame.color_primaries)
        matrix = _matrix(frame)
        interpolation = Interpolation.AREA if width <= frame.width and height <= frame.height else Interpolation.BICUBIC
        scaled_format = _scaled_format(name, keep_depth=toned)
        small = frame
        if scaled_format is not None:
            small = self._scale.reformat(
                frame,
                width,
                height,
                format=scaled_format,
                src_colorspace=matrix,
                dst_colorspace=matrix,
                interpolation=interpolation,
                threads=1,
            )
        picture = self._to_rgb.reformat(
            small,
            width,
            height,
            format="rgb48le" if toned else "rgb24",
            src_colorspace=matrix,
            dst_colorspace=matrix,
            interpolation=interpolation,
            dst_color_range=ColorRange.JPEG,
            threads=1,
        ).to_ndarray()
        if toned:
            return tone.to_sdr(
                picture.astype(np.uint16, copy=False), frame.color_trc, frame.color_primaries, _peak_nits(frame)
            )
        if name.startswith("gray") and frame.color_range == ColorRange.MPEG:
            picture = FULL_FROM_LIMITED.take(cast("NDArray[np.uint8]", picture))
        return cast("NDArray[np.uint8]", picture)

    def luma(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """Return brightness at full size, shape (height, width); its range does not matter to the caller."""
        planar = PLANAR_YUV.fullmatch(frame.format.name)
        if planar is None or planar["depth"]:
            matrix = _matrix(frame)
            frame = self._to_gray.reformat(
                frame, format="gray", src_colorspace=matrix, dst_colorspace=matrix, threads=1
            )
        plane = frame.planes[0]
        lines = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
        return lines[:, : plane.width]

    def _on_black(self, frame: VideoFrame) -> VideoFrame:
        """Return the frame without alpha. At full size: scaled first, hidden colours would bleed into the edges."""
        matrix = _matrix(frame)
        rgba = self._to_rgba.reformat(
            frame,
            format="rgba",
            src_colorspace=matrix,
            dst_colorspace=matrix,
            dst_color_range=ColorRange.JPEG,
            threads=1,
        ).to_ndarray()
        rgb, alpha = rgba[..., :3], rgba[..., 3:]
        if frame.format.name.startswith("ya") and frame.color_range == ColorRange.MPEG:
            rgb = FULL_FROM_LIMITED.take(cast("NDArray[np.uint8]", rgb))
        if alpha.min() < 255:
            rgb = (rgb * alpha.astype(np.uint16) + 127) // 255
        opaque = VideoFrame.from_ndarray(rgb.astype(np.uint8), format="rgb24")
        opaque.color_trc, opaque.color_primaries = frame.color_trc, frame.color_primaries
        return opaque


@lru_cache(maxsize=256)
def _has_alpha(format_name: str) -> bool:
    video_format = VideoFormat(format_name)
    return video_format.has_palette or any(component.is_alpha for component in video_format.components)


@lru_cache(maxsize=256)
def _scaled_format(format_name: str, *, keep_depth: bool) -> str | None:
    """Return the YUV format in which frames are scaled, to be converted to RGB at the small size; None for the rest.

    That costs a quarter of the other order, and bits beyond 8 that nobody looks at another half.
    """
    planar = PLANAR_YUV.fullmatch(format_name)
    if planar is None:
        return None if keep_depth else OTHER_YUV.get(format_name)
    return f"yuv{planar['chroma']}p" if planar["depth"] and not keep_depth else format_name


def _matrix(frame: VideoFrame) -> Colorspace | None:
    """Return the matrix to read the frame with where the scaler would refuse or misread its own; else None."""
    matrix = frame.colorspace
    if matrix == 2:
        return Colorspace.BT2020 if frame.color_trc in (tone.PQ, tone.HLG) else None
    if matrix in READABLE_MATRICES:
        return None
    if matrix == 10 or (matrix in (12, 13) and frame.color_primaries == tone.BT2020):
        return Colorspace.BT2020  # constant luminance differs from the common kind only in saturated colours
    return Colorspace.ITU709 if matrix in (12, 13) else Colorspace.ITU601


def _peak_nits(frame: VideoFrame) -> float:
    """Return the brightest light of a PQ picture in cd/m2, as far as the file says.

    The content's own maximum (CTA-861.3) where it is given, else that of the display it was graded on (SMPTE ST 2086).
    """
    side_data = cast("SideDataContainer", frame.side_data)
    nits = 0.0
    if SideDataType.MASTERING_DISPLAY_METADATA in side_data:
        # AVMasteringDisplayMetadata: five chromaticities, least and most luminance as fractions, two booleans.
        numbers = struct.unpack("=22i", bytes(side_data[SideDataType.MASTERING_DISPLAY_METADATA])[:88])
        numerator, denominator, _, has_luminance = numbers[18:]
        if has_luminance and denominator > 0:
            nits = numerator / denominator
    if SideDataType.CONTENT_LIGHT_LEVEL in side_data:
        (max_content,) = struct.unpack("=I", bytes(side_data[SideDataType.CONTENT_LIGHT_LEVEL])[:4])
        nits = max_content or nits
    if nits <= 0:
        return tone.NOMINAL_PEAK_NITS
    return min(max(nits, tone.SDR_WHITE_NITS), tone.MAX_PQ_NITS)
