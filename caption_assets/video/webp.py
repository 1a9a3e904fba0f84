"""Animated WebP: pictures written by libwebp, and files checked by decoding every picture in them."""

from collections.abc import Iterator
from fractions import Fraction

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray

ENCODER = "libwebp_anim"

MAX_SIDE = (1 << 14) - 1
"""Pixels of either side: its field has 14 bits (WebP container specification)."""

MAX_FRAME_MS = (1 << 24) - 1
"""Milliseconds of one frame: its field has 24 bits (WebP container specification)."""

MS = Fraction(1, 1000)


class WebPWriter:
    """Writes an animation that plays forever, picture by picture, in memory.

    Equal neighbours become one picture that is shown for longer. A file with a single picture is a still WebP.
    """

    def __init__(self, width: int, height: int, quality: int, compression_level: int) -> None:
        """Open the encoder.

        Args:
            width: of the file in pixels, 1 to MAX_SIDE.
            height: the same.
            quality: 0 to 100; 100 is the best.
            compression_level: 0 to 6; a higher level takes longer and gives smaller files.

        Raises:
            ValueError: this machine's FFmpeg has no WebP encoder.
        """
        encoder = av.CodecContext.create(ENCODER, "w")
        assert isinstance(encoder, VideoCodecContext)
        encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
        encoder.time_base, encoder.thread_count = MS, 1
        encoder.options = {"quality": str(quality), "compression_level": str(compression_level)}
        self._encoder = encoder
        self._scaler = VideoReformatter()

    def add(self, rgb: NDArray[np.uint8], start_ms: int) -> None:
        """Add the next picture, (height, width, 3) of any size, shown from `start_ms` on. The first one starts at 0."""
        frame = self._scaler.reformat(
            av.VideoFrame.from_ndarray(rgb, format="rgb24"),
            self._encoder.width,
            self._encoder.height,
            format="yuv420p",
            interpolation=Interpolation.AREA,
            dst_colorspace=Colorspace.ITU601,  # the only colours that WebP has (RFC 9649, 2.5)
            dst_color_range=ColorRange.MPEG,
            threads=1,
        )
        frame.pts, frame.time_base = start_ms, MS
        self._encoder.encode(frame)  # the encoder returns nothing before its end

    def finish(self, end_ms: int) -> bytes:
        """Return the file, whose last picture is shown until `end_ms`."""
        return _last_frame_until(b"".join(map(bytes, self._encoder.encode(None))), end_ms)


def check_webp(data: bytes) -> tuple[int, int, int]:
    """Decode every picture of a WebP file and return (width, height, number of pictures).

    Raises:
        ValueError: the file is not a WebP whose pictures all decode.
    """
    width = height = n_pictures = 0
    for still in stills(data):
        decoder = av.CodecContext.create("webp", "r")
        assert isinstance(decoder, VideoCodecContext)
        try:
            decoded = [*decoder.decode(av.Packet(still)), *decoder.decode(None)]
        except (av.FFmpegError, EOFError, IndexError):
            decoded = []
        if len(decoded) != 1:
            raise ValueError(f"picture {n_pictures + 1} of the preview does not decode")
        width, height = max(width, decoded[0].width), max(height, decoded[0].height)
        n_pictures += 1
    for kind, at, _ in chunks(data):
        if kind == b"VP8X":  # the canvas of an animation, whose pictures may be smaller
            width, height = (1 + _uint24(data, at + offset) for offset in (4, 7))
    return width, height, n_pictures


def stills(data: bytes) -> Iterator[bytes]:
    """Yield each picture of a WebP file as a still WebP file of its own.

    FFmpeg decodes still WebP only, so each frame of an animation is put into a file by itself, with its alpha.

    Raises:
        ValueError: the file is not WebP, or it is cut.
    """
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        raise ValueError("the preview is not a WebP file")
    if 8 + int.from_bytes(data[4:8], "little") > len(data):
        raise ValueError("the preview is cut")
    frames = [(start, end) for kind, start, end in chunks(data) if kind == b"ANMF"]
    for start, end in frames:
        yield _still(data[start + 6 : start + 12], data[start + 16 : end])
    if not frames:
        yield data


def _last_frame_until(data: bytes, end_ms: int) -> bytes:
    """Make the last frame of an animation end at `end_ms`: the encoder only guesses how long it is shown."""
    durations_at = [start + 12 for kind, start, _ in chunks(data) if kind == b"ANMF"]
    if not durations_at:
        return data
    shown_ms = end_ms - sum(_uint24(data, at) for at in durations_at[:-1])
    field = min(max(1, shown_ms), MAX_FRAME_MS).to_bytes(3, "little")
    return data[: durations_at[-1]] + field + data[durations_at[-1] + 3 :]


def _still(size_fields: bytes, frame_data: bytes) -> bytes:
    """Wrap the chunks of one frame; `size_fields` are its width - 1 and height - 1, 24 bits each."""
    has_alpha = frame_data[:4] == b"ALPH"
    header = b"VP8X" + (10).to_bytes(4, "little") + bytes([0x10 if has_alpha else 0, 0, 0, 0]) + size_fields
    body = b"WEBP" + (header if has_alpha else b"") + frame_data
    return b"RIFF" + len(body).to_bytes(4, "little") + body


def chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the type of each chunk of a WebP file, where its payload starts, and where it ends.

    Raises:
        ValueError: a chunk reaches beyond the data.
    """
    position = 12
    while position + 8 <= len(data):
        kind, size = data[position : position + 4], int.from_bytes(data[position + 4 : position + 8], "little")
        start = position + 8
        if start + size > len(data):
            raise ValueError(f"the preview is cut: its last {start + size - len(data)} bytes are missing")
        yield kind, start, start + size
        position = start + size + (size & 1)


def _uint24(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 3], "little")
