"""The structure of ISO base media files (MP4, AVIF) that previews are."""

import io
import struct
from collections.abc import Iterator

import av
from av.container import InputContainer
from av.video.stream import VideoStream

NESTED = (b"trak", b"mdia", b"minf", b"stbl")
"""Boxes on the way from `moov` to the offsets of the pictures."""


def is_iso(data: bytes) -> bool:
    """Tell whether `data` begins like an ISO base media file."""
    return data[4:8] == b"ftyp"


def index_first(data: bytes) -> bytes:
    """Return an MP4 with its index before the pictures, so that a browser plays it while it loads.

    The muxer can do this only to a file with a name. Offsets of pictures (`stco`) move with them.

    Raises:
        ValueError: the file is not whole, or it is over 4 GiB.
    """
    boxes = [(kind, data[start:end]) for kind, start, _, end in _boxes(data, 0, len(data))]
    index = next((bytearray(box) for kind, box in boxes if kind == b"moov"), None)
    if index is None:
        raise ValueError("the preview has no index (moov)")
    _shift_offsets(index, 0, len(index), len(index))
    first = [box for kind, box in boxes if kind == b"ftyp"]
    rest = [box for kind, box in boxes if kind not in (b"ftyp", b"moov")]
    return b"".join([*first, bytes(index), *rest])


def count_pictures(data: bytes) -> int:
    """Return how many pictures the index names, without decoding them.

    Raises:
        ValueError: the file is not whole, or it holds no pictures.
    """
    list(_boxes(data, 0, len(data)))
    with av.open(io.BytesIO(data), "r", format="mov") as container:
        return max(1, _film(container).frames)


def check_iso(data: bytes) -> tuple[int, int, int]:
    """Decode every picture of an AVIF or MP4 file and return (width, height, number of pictures).

    Raises:
        ValueError: the file is cut, or a picture is missing or damaged.
        av.FFmpegError, EOFError: a picture does not decode.
    """
    list(_boxes(data, 0, len(data)))
    with av.open(io.BytesIO(data), "r", format="mov") as container:
        film = _film(container)
        film.codec_context.options = {"err_detect": "explode"}
        film.codec_context.thread_type = "NONE"
        n_decoded = 0
        for frame in container.decode(film):
            if frame.is_corrupt:
                raise ValueError(f"frame {n_decoded} of the preview does not decode")
            n_decoded += 1
        if n_decoded != max(1, film.frames):
            raise ValueError(f"the preview does not decode: {n_decoded} of {film.frames} pictures came out")
        return film.width, film.height, n_decoded


def _film(container: InputContainer) -> VideoStream:
    """Return the animation of a file: an AVIF holds its first picture as a stream of its own as well."""
    if not container.streams.video:
        raise ValueError("the preview holds no picture")
    return max(container.streams.video, key=lambda stream: stream.frames)


def _boxes(data: bytes | bytearray, start: int, stop: int) -> Iterator[tuple[bytes, int, int, int]]:
    """Yield (type, start, start of the content, end) of each box.

    Raises:
        ValueError: a box reaches beyond `stop`, or bytes are left that are no box.
    """
    while start < stop:
        size, kind = struct.unpack_from(">I4s", data, start) if start + 8 <= stop else (0, b"")
        content = start + 8
        if size == 1 and content + 8 <= stop:
            (size,) = struct.unpack_from(">Q", data, content)
            content += 8
        if size < content - start or start + size > stop:
            raise ValueError("the preview is cut, or not a file of boxes")
        yield kind, start, content, start + size
        start += size


def _shift_offsets(index: bytearray, start: int, stop: int, by: int) -> None:
    for kind, _, content, end in _boxes(index, start, stop):
        if kind == b"moov" or kind in NESTED:
            _shift_offsets(index, content, end, by)
        elif kind == b"co64":
            raise ValueError("the preview is over 4 GiB")
        elif kind == b"stco":
            (count,) = struct.unpack_from(">I", index, content + 4)
            for at in range(content + 8, content + 8 + 4 * count, 4):
                struct.pack_into(">I", index, at, struct.unpack_from(">I", index, at)[0] + by)
