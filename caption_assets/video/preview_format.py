"""The file formats of a preview: which encoder writes each, with which effort and quality, and how each is checked.

| format | encoder | shown by |
|---|---|---|
| webp | libwebp_anim | every browser, as an image that plays for ever |
| avif | libsvtav1 | browsers since 2020 to 2023, as an image that plays for ever |
| mp4 | libx264 | every browser, as a video: `<video muted autoplay loop>` |

`quality` (0 to 100) and `compression_level` (0 to 6, effort only) are on the scales of WebP. They become:

- webp: both as they are.
- avif: crf = ((100 - quality) * 63 + 50) // 100, from 63 to 1, as libavif maps quality to the quantizer of AV1
  (`avifQualityToQuantizer`); preset = 12 - compression_level.
- mp4: crf = 51 - 0.37 * quality, from 51 to 14: measured, within 2 dB of avif at the same quality. Never 0, which is
  lossless in a profile that no browser plays. The preset is one of x264's names, medium at 4.

From quality 50 on, avif and mp4 look 1.5 to 5 dB better than webp at the same quality (benchmarks/README.md).
"""

import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from av.container import OutputContainer
from av.packet import Packet
from av.video.reformatter import (
    ColorPrimaries,
    ColorRange,
    Colorspace,
    ColorTrc,
    Interpolation,
    VideoReformatter,
)
from av.video.stream import VideoStream
from numpy.typing import NDArray

from caption_assets.video import isobmff, webp
from caption_assets.video.priority import keeping_priority
from caption_assets.video.x264 import repeatable

MS = Fraction(1, 1000)
SLOWEST, FASTEST = Fraction(1, 1000), Fraction(240)
"""Pictures a second that an encoder is told at least and at most; SVT-AV1 refuses more."""

BT601_MATRIX = 6
"""ISO/IEC 23091-2, where the library's own constant for the same matrix is of another list."""

X264_PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "medium", "slow", "slower")


@dataclass(frozen=True)
class PreviewFormat:
    """A format of previews.

    suffix: of the file, with the dot. media_type: as a browser calls it. encoder, muxer: names of the library.
    min_side, max_side: pixels that both sides have at least and at most. even_sides: both are multiples of 2.
    """

    name: str
    suffix: str
    media_type: str
    encoder: str
    muxer: str
    min_side: int
    max_side: int
    even_sides: bool
    muxer_options: Mapping[str, str]

    @property
    def is_writable(self) -> bool:
        """Whether the libraries of this machine can write it."""
        return self.encoder in av.codecs_available and self.muxer in av.formats_available


FORMATS: Mapping[str, PreviewFormat] = {
    found.name: found
    for found in (
        # Sides: 14 bits less 1 (WebP container specification). loop 0: for ever.
        PreviewFormat("webp", ".webp", "image/webp", "libwebp_anim", "webp", 1, 16_383, False, {"loop": "0"}),
        # SVT-AV1 takes 4 to 16,384 pixels a side.
        PreviewFormat("avif", ".avif", "image/avif", "libsvtav1", "avif", 4, 16_384, False, {"loop": "0"}),
        # 4:2:0 has one chroma sample for two pixels; x264 takes up to 16,384 pixels a side.
        PreviewFormat("mp4", ".mp4", "video/mp4", "libx264", "mp4", 2, 16_384, True, {}),
    )
}


def writable_formats() -> list[str]:
    """Return the names of the formats that this machine can write."""
    return [name for name, found in FORMATS.items() if found.is_writable]


def require_format(name: str) -> PreviewFormat:
    """Return the format of this name.

    Raises:
        ValueError: there is no such format, or no encoder for it on this machine; the message says which there are.
    """
    if name not in FORMATS:
        raise ValueError(f"preview_format is {name!r}, allowed: {', '.join(FORMATS)}")
    found = FORMATS[name]
    if not found.is_writable:
        there = ", ".join(writable_formats()) or "none"
        raise ValueError(
            f"preview_format is {name}, which needs the encoder {found.encoder}, and the FFmpeg of this machine lacks "
            f"it; formats it can write: {there}"
        )
    return found


def format_of(path: str) -> PreviewFormat | None:
    """Return the format that the suffix of a path stands for, or None."""
    return next((found for found in FORMATS.values() if path.endswith(found.suffix)), None)


def encoder_options(name: str, quality: int, compression_level: int) -> dict[str, str]:
    """Return the options of a format's encoder. quality: 0 to 100; compression_level: 0 to 6. See the module."""
    if name == "avif":
        crf = max(1, ((100 - quality) * 63 + 50) // 100)
        # One worker a core: more threads would only contend.
        return {"crf": str(crf), "preset": str(12 - compression_level), "svtav1-params": "lp=1"}
    if name == "mp4":
        # Without B-frames pictures are stored in the order they are shown, and no edit list is needed.
        return {"crf": str(round(51 - 0.37 * quality)), "preset": X264_PRESETS[compression_level], "bf": "0"}
    return {"quality": str(quality), "compression_level": str(compression_level)}


class PreviewEncoder:
    """Writes one preview, picture by picture, in memory.

    Colour is BT.601 of limited range, as WebP is by definition (RFC 9649, 2.5), and the other formats say so.
    """

    def __init__(
        self, form: PreviewFormat, width: int, height: int, fps: float, quality: int, compression_level: int
    ) -> None:
        os.environ.setdefault("SVT_LOG", "1")  # errors only: it prints its settings for every file else
        self._form, self._width, self._height = form, width, height
        self._output = io.BytesIO()
        self._scaler = VideoReformatter()
        self._pending: Packet[VideoStream] | None = None
        self._container: OutputContainer = av.open(
            self._output, "w", format=form.muxer, options=dict(form.muxer_options)
        )
        rate = min(max(SLOWEST, Fraction(fps).limit_denominator(1000)), FASTEST)  # only a hint: times are exact
        stream = self._container.add_stream(form.encoder, rate=rate)
        assert isinstance(stream, VideoStream)
        self._stream = stream
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {**repeatable(form.encoder, encoder_options(form.name, quality, compression_level))}
        context = stream.codec_context
        stream.time_base = context.time_base = MS
        context.thread_count = 1
        context.color_range, context.colorspace = ColorRange.MPEG, BT601_MATRIX
        context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.IEC61966_2_1
        try:
            with keeping_priority():
                self._container.start_encoding()
        except BaseException:
            self._container.close()
            raise

    def add(self, rgb: NDArray[np.uint8], start_ms: int) -> None:
        """Take the next picture, (height, width, 3) of any size, shown from `start_ms` on."""
        frame = self._scaler.reformat(
            av.VideoFrame.from_ndarray(rgb, format="rgb24"),
            self._width,
            self._height,
            format="yuv420p",
            interpolation=Interpolation.AREA,
            dst_colorspace=Colorspace.ITU601,
            dst_color_range=ColorRange.MPEG,
            threads=1,
        )
        frame.pts, frame.time_base = start_ms, MS
        self._mux(self._stream.encode(frame))

    def finish(self, end_ms: int) -> tuple[bytes, int]:
        """Return the file, whose last picture is shown until `end_ms`, and how many pictures it holds.

        WebP shows equal neighbours as one picture.
        """
        self._mux(self._stream.encode(None))
        if self._pending is not None:
            assert self._pending.pts is not None
            self._pending.duration = end_ms - self._pending.pts
            self._container.mux(self._pending)
        self._container.close()
        data = self._output.getvalue()
        if self._form.name == "webp":
            data = webp.last_frame_until(data, end_ms)
            return data, webp.count_pictures(data)
        if self._form.name == "mp4":
            data = isobmff.index_first(data)
        return data, isobmff.count_pictures(data)

    def close(self) -> None:
        """Give up what is not finished."""
        self._container.close()

    def _mux(self, packets: Sequence["Packet[VideoStream]"]) -> None:
        """Write all but the last packet, whose duration is known only when the next one or the end is."""
        for packet in packets:
            if self._pending is not None:
                self._container.mux(self._pending)
            self._pending = packet


def check_preview(data: bytes) -> tuple[int, int, int]:
    """Decode every picture of a preview, whatever its format, and return (width, height, number of pictures).

    Raises:
        ValueError: the file is not a WebP, AVIF or MP4 whose pictures all decode.
    """
    check = isobmff.check_iso if isobmff.is_iso(data) else webp.check_webp
    try:
        return check(data)
    except (av.FFmpegError, EOFError, IndexError) as error:
        raise ValueError(f"the preview does not decode: {error}") from error
