"""A small animated picture of a window, made from its packed frames, for people to look at.

Animated WebP that plays for ever, with true display times to the end of the window. The frames are not decoded from
the video again.
"""

import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import av
import simplejpeg
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from av.video.stream import VideoStream

from caption_assets.engines.protocol import PackedFrames

MIN_TARGET_HEIGHT = 16
MAX_WEBP_SIDE = 16_383
"""Pixels (WebP container specification)."""

MAX_FRAME_MS = (1 << 24) - 1
"""Milliseconds of one frame: its field has 24 bits (WebP container specification)."""

MS = Fraction(1, 1000)


@dataclass(frozen=True)
class PreviewRule:
    """How a preview looks.

    target_fps: pictures a second, above 0. target_height: pixels, 16 or more; never more than the source has.
    quality: of lossy WebP, 0 to 100. compression_level: effort only, 0 to 6.

    Raises:
        ValueError: a number is outside its range, which the message gives.
    """

    target_fps: float = 1.0
    target_height: int = 240
    quality: int = 50
    compression_level: int = 4

    def __post_init__(self) -> None:
        if not (self.target_fps > 0 and math.isfinite(self.target_fps)):
            raise ValueError(f"target_fps is {self.target_fps}, allowed: above 0")
        if self.target_height < MIN_TARGET_HEIGHT:
            raise ValueError(f"target_height is {self.target_height}, allowed: {MIN_TARGET_HEIGHT} or more")
        if not 0 <= self.quality <= 100:
            raise ValueError(f"quality is {self.quality}, allowed: 0 to 100")
        if not 0 <= self.compression_level <= 6:
            raise ValueError(f"compression_level is {self.compression_level}, allowed: 0 to 6")


@dataclass(frozen=True)
class Preview:
    """A WebP file. `n_frames` counts what it shows; equal neighbours are one. `warnings` are sentences for a person."""

    data: bytes
    width: int
    height: int
    n_frames: int
    warnings: tuple[str, ...]


def make_preview(
    frames: PackedFrames,
    window_start_s: float,
    window_end_s: float,
    rule: PreviewRule,
    *,
    source_fps: float | None = None,
    source_width: int | None = None,
    source_height: int | None = None,
) -> Preview:
    """Make the preview of a window.

    Args:
        frames: the packed frames of the window.
        window_start_s: seconds from the clip's first frame to the start of the window's first frame.
        window_end_s: seconds from the clip's first frame to the end of the window's last frame.
        rule: how it looks.
        source_fps: frames a second of the clip; below rule.target_fps there is a warning.
        source_width: of the clip's upright picture, for the exact shape; else that of the packed frames.
        source_height: the same; below rule.target_height there is a warning.

    Raises:
        ValueError: there is no frame, or a packed frame is not a JPEG.
    """
    if not frames.jpegs:
        raise ValueError("a preview needs at least one packed frame")
    warnings = []
    if source_fps is not None and source_fps < rule.target_fps:
        warnings.append(f"the source has {source_fps:g} frames a second, below target_fps {rule.target_fps:g}")
    if source_height is not None and source_height < rule.target_height:
        warnings.append(f"the source is {source_height} pixels high, below target_height {rule.target_height}")

    height = min(rule.target_height, frames.height, source_height or frames.height)
    shape = source_width / source_height if source_width and source_height else frames.width / frames.height
    width = max(1, round(height * shape))
    if width > MAX_WEBP_SIDE:
        width, height = MAX_WEBP_SIDE, max(1, round(MAX_WEBP_SIDE / shape))
    shown = choose_frames(frames.times_s, window_start_s, window_end_s, rule.target_fps)
    starts_ms = [0] + [round((frames.times_s[index] - window_start_s) * 1000) for index in shown[1:]]
    end_ms = max(round((window_end_s - window_start_s) * 1000), starts_ms[-1] + 1)
    data = _encode([frames.jpegs[index] for index in shown], starts_ms, end_ms, width, height, rule)
    return Preview(data, width, height, sum(1 for _ in _pictures(data)), tuple(warnings))


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


def check_preview(data: bytes) -> tuple[int, int, int]:
    """Decode every picture of a WebP file and return (width, height, number of frames).

    Raises:
        ValueError: the file is not a WebP whose pictures all decode.
    """
    try:
        width = height = n_frames = 0
        for picture in _pictures(data):
            decoder = av.CodecContext.create("webp", "r")
            decoded = [*decoder.decode(av.Packet(picture)), *decoder.decode(None)]
            if len(decoded) != 1:
                raise ValueError(f"frame {n_frames} of the preview does not decode")
            frame = decoded[0]
            width, height = max(width, getattr(frame, "width", 0)), max(height, getattr(frame, "height", 0))
            n_frames += 1
    except (av.FFmpegError, EOFError, IndexError) as error:
        raise ValueError(f"the preview does not decode: {error}") from error
    if not n_frames:
        raise ValueError("the preview holds no picture")
    canvas = _canvas(data)
    return (*(canvas or (width, height)), n_frames)


def _encode(
    jpegs: Sequence[bytes], starts_ms: Sequence[int], end_ms: int, width: int, height: int, rule: PreviewRule
) -> bytes:
    output = io.BytesIO()
    scaler = VideoReformatter()
    with av.open(output, "w", format="webp", options={"loop": "0"}) as container:  # 0: for ever
        stream = container.add_stream("libwebp_anim", rate=1000)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.time_base = stream.codec_context.time_base = MS
        stream.options = {"quality": str(rule.quality), "compression_level": str(rule.compression_level)}
        for jpeg, start_ms in zip(jpegs, starts_ms, strict=True):
            # The JPEG is decoded at the eighth that is just large enough.
            rgb = simplejpeg.decode_jpeg(jpeg, "rgb", min_height=height, min_width=width)
            frame = scaler.reformat(
                av.VideoFrame.from_ndarray(rgb, format="rgb24"),
                width,
                height,
                format="yuv420p",
                interpolation=Interpolation.AREA,
                dst_colorspace=Colorspace.ITU601,  # what WebP is, as is limited range (RFC 9649, 2.5)
                dst_color_range=ColorRange.MPEG,
                threads=1,
            )
            frame.pts, frame.time_base = start_ms, MS
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return _last_frame_until(output.getvalue(), end_ms)


def _last_frame_until(data: bytes, end_ms: int) -> bytes:
    """Make the last frame of an animation end at `end_ms`; the encoder only guesses how long it is shown."""
    headers = [at for kind, at, _ in _chunks(data, 12) if kind == b"ANMF"]
    if not headers:
        return data
    patched = bytearray(data)
    durations = [int.from_bytes(data[at + 12 : at + 15], "little") for at in headers]
    last_ms = min(max(1, end_ms - sum(durations[:-1])), MAX_FRAME_MS)
    patched[headers[-1] + 12 : headers[-1] + 15] = last_ms.to_bytes(3, "little")
    return bytes(patched)


def _chunks(data: bytes, position: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield the type of each RIFF chunk from `position` on, where its payload starts, and where it ends.

    Raises:
        ValueError: a chunk reaches beyond the data.
    """
    while position + 8 <= len(data):
        kind, size = data[position : position + 4], int.from_bytes(data[position + 4 : position + 8], "little")
        start = position + 8
        if start + size > len(data):
            raise ValueError(f"the preview is cut: {start + size - len(data)} bytes are not there")
        yield kind, start, start + size
        position = start + size + (size & 1)


def _canvas(data: bytes) -> tuple[int, int] | None:
    """Return the width and height of an extended WebP file; None for a plain one."""
    for kind, at, _ in _chunks(data, 12):
        if kind == b"VP8X":
            return 1 + int.from_bytes(data[at + 4 : at + 7], "little"), 1 + int.from_bytes(
                data[at + 7 : at + 10], "little"
            )
    return None


def _pictures(data: bytes) -> Iterator[bytes]:
    """Yield each picture of a WebP file as a still WebP file of its own.

    The library decodes still WebP only, so a frame of an animation is put into a file by itself, with its alpha.

    Raises:
        ValueError: the file is not WebP, or it is cut.
    """
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        raise ValueError("the preview is not a WebP file")
    if 8 + int.from_bytes(data[4:8], "little") > len(data):
        raise ValueError("the preview is cut")
    found = False
    for kind, start, end in _chunks(data, 12):
        if kind == b"ANMF":
            found = True
            yield _still(data[start + 6 : start + 12], data[start + 16 : end])
    if not found:
        yield data


def _still(size_fields: bytes, frame_data: bytes) -> bytes:
    """Wrap the chunks of one frame; `size_fields` are its width - 1 and height - 1, 24 bits each."""
    has_alpha = frame_data[:4] == b"ALPH"
    header = b"VP8X" + (10).to_bytes(4, "little") + bytes([0x10 if has_alpha else 0, 0, 0, 0]) + size_fields
    body = b"WEBP" + (header if has_alpha else b"") + frame_data
    return b"RIFF" + len(body).to_bytes(4, "little") + body
