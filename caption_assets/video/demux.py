"""Opening an uploaded file without trusting it, and which of its packets are pictures.

The file is read through an object that has no name and no siblings, so that neither an odd name (`concat:a|b`, `%03d`,
a leading dash) nor a playlist inside it can make the library open anything else. Only plain containers are accepted.
"""

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import av
import av.logging
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from caption_assets.settings.groups import ClipSettings
from caption_assets.video.container import index_is_missing, missing_bytes, unlisted_samples

CONTAINER_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts"
"""Demuxers that may be used: none of them reads a second file (external references of MOV are off by default)."""

CONTAINER_NAMES = "MP4, MOV, Matroska, WebM, AVI, MPEG program stream or MPEG transport stream"

READ_BYTES = 1 << 16

MAX_RESUMPTIONS = 1000
"""Times that reading goes on after a demuxer says "try again", which it does about damage in a transport stream."""

VP8_SHOW_FRAME = 0x10
"""Bit of the first byte of a VP8 frame that is set when it is displayed (RFC 6386, section 9.1)."""


class UnreadableVideo(Exception):
    """No caption can come from this file. `str()` is one sentence for the person who uploaded it."""


class _NamelessFile:
    """A file of which the library sees only bytes. Positions and lengths are in bytes."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb", buffering=0)

    def read(self, size: int) -> bytes:
        return self._file.read(size) or b""

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self._file.close()


@contextmanager
def open_clip(path: Path, limits: ClipSettings) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a file and choose its video stream, with a decoder set to one thread and limited pictures.

    The best stream that is not an attached picture (cover art) is chosen. Errors of the library inside the `with`
    become UnreadableVideo too.

    Raises:
        UnreadableVideo: the file is no video that can be decoded, or is over a limit.
    """
    file = None
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableVideo("not a regular file")
        if status.st_size == 0:
            raise UnreadableVideo("empty file (0 bytes): upload it again")
        if (promised := unlisted_samples(path)) > limits.max_packets:
            raise UnreadableVideo(f"its header promises {promised:,} samples, allowed: up to {limits.max_packets:,}")
        file = _NamelessFile(path)
        with _open_container(path, file, limits) as container:
            yield container, _video_stream(container, limits)
    except (av.FFmpegError, OSError, MemoryError) as error:
        raise UnreadableVideo(describe_error(error)) from error
    finally:
        if file is not None:
            file.close()


def video_packets(container: InputContainer, stream: VideoStream) -> "Iterator[Packet[VideoStream]]":
    """Yield the packets of the stream that hold data, in file order, then one empty packet that ends the decoder."""
    for _ in range(MAX_RESUMPTIONS):
        try:
            for packet in container.demux(stream):
                if packet.size:
                    yield packet
        except IndexError:
            # PyAV 18.1 ends so where a stream of its own begins in the middle of the file; all packets were read.
            break
        except BlockingIOError:
            continue  # of a damaged transport stream: what comes after can be read
        break
    yield cast("Packet[VideoStream]", Packet())


def decode_packet(stream: VideoStream, packet: "Packet[VideoStream] | None") -> tuple[list[VideoFrame], bool]:
    """Decode one packet, None or an empty one for the rest; return its frames, and whether the decoder complained.

    A decoder conceals most damage and raises nothing; that the frame is not what was filmed, it only logs. The stricter
    `err_detect=explode` finds the same damage and drops whole frames that were due before it.

    Raises:
        av.FFmpegError, EOFError: as the library does.
    """
    with _hear_errors() as heard:
        frames = stream.codec_context.decode(packet if packet is not None and packet.size else None)
    return frames, bool(heard)


@contextmanager
def _hear_errors() -> Iterator[list[tuple[int, str, str]]]:
    """Collect what the library logs as an error in this thread; settings of its log are as before afterwards."""
    level, skips = av.logging.get_level(), av.logging.get_skip_repeated()
    av.logging.set_level(av.logging.ERROR)
    av.logging.set_skip_repeated(False)
    try:
        with av.logging.Capture(True) as heard:
            yield heard
    finally:
        av.logging.set_level(level)
        av.logging.set_skip_repeated(skips)


def is_picture(packet: "Packet[VideoStream]", codec: str) -> bool:
    """Tell whether a packet is a displayed frame: not empty, not cut away by an edit list, not a hidden VP8 reference.

    The count of these packets is the number of frames; headers are wrong too often to be used.
    """
    if not packet.size or packet.is_discard:
        return False
    return codec != "vp8" or bool(memoryview(packet)[0] & VP8_SHOW_FRAME)


def describe_error(error: BaseException) -> str:
    """Say in one line what a library error means for the file."""
    if isinstance(error, MemoryError):
        return "reading it takes more memory than a clip is given; re-encode the video at a smaller size"
    detail = (getattr(error, "strerror", None) or str(error) or type(error).__name__).splitlines()[0]
    return f"it cannot be read ({detail[:200]})"


def _open_container(path: Path, file: _NamelessFile, limits: ClipSettings) -> InputContainer:
    try:
        # "none" is no protocol: whatever a file refers to stays closed. max_pixels limits what opening itself decodes.
        return av.open(
            file,
            "r",
            options={
                "format_whitelist": CONTAINER_FORMATS,
                "protocol_whitelist": "none",
                "max_pixels": str(limits.max_pixels),
            },
            buffer_size=READ_BYTES,
            metadata_errors="replace",
        )
    except (av.FFmpegError, ValueError) as error:
        if index_is_missing(path):
            raise UnreadableVideo(
                "the index (moov) is missing: the file is incomplete or damaged, upload it again"
                + (f" ({missing:,} bytes are not there)" if (missing := missing_bytes(path)) else "")
            ) from error
        if missing := missing_bytes(path):
            raise UnreadableVideo(
                f"the file is cut ({missing:,} bytes are not there) and cannot be read; upload it again"
            ) from error
        raise UnreadableVideo(f"not a video container we read ({CONTAINER_NAMES})") from error


def _video_stream(container: InputContainer, limits: ClipSettings) -> VideoStream:
    if len(container.streams) > limits.max_streams:
        raise UnreadableVideo(f"{len(container.streams)} streams, allowed: up to {limits.max_streams}")
    films = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    if not films:
        if container.streams.video:
            raise UnreadableVideo("no video stream: the only picture is cover art")
        if container.streams.audio:
            raise UnreadableVideo("no video stream: the file holds only audio")
        raise UnreadableVideo("no video stream in the file")
    best = container.streams.best("video")
    stream = next((film for film in films if best is not None and film.index == best.index), films[0])
    context = stream.codec_context
    if context is None:
        raise UnreadableVideo("the video codec is not supported; re-encode the video, for example as H.264")
    pixels = context.width * context.height
    if pixels > limits.max_pixels:
        raise UnreadableVideo(
            f"the picture is {context.width}x{context.height}, {pixels:,} pixels, allowed: up to {limits.max_pixels:,}"
        )
    context.options = {"max_pixels": str(limits.max_pixels)}
    context.thread_type = "NONE"  # frame threads hide errors at the end of a cut file, and save no CPU
    context.thread_count = 1
    return stream
