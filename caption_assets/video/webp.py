"""The structure of WebP files: what the library neither writes right nor reads."""

from collections.abc import Iterator

import av

MAX_FRAME_MS = (1 << 24) - 1
"""Milliseconds of one frame: its field has 24 bits (WebP container specification)."""


def is_webp(data: bytes) -> bool:
    """Tell whether `data` begins like a WebP file."""
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP"


def count_pictures(data: bytes) -> int:
    """Return how many pictures a WebP file holds, without decoding them."""
    return sum(1 for _ in stills(data))


def check_webp(data: bytes) -> tuple[int, int, int]:
    """Decode every picture of a WebP file and return (width, height, number of pictures).

    Raises:
        ValueError: the file is not a WebP whose pictures all decode.
        av.FFmpegError, EOFError, IndexError: a picture does not decode.
    """
    width = height = n_frames = 0
    for picture in stills(data):
        decoder = av.CodecContext.create("webp", "r")
        decoded = [*decoder.decode(av.Packet(picture)), *decoder.decode(None)]
        if len(decoded) != 1:
            raise ValueError(f"frame {n_frames} of the preview does not decode")
        frame = decoded[0]
        width, height = max(width, getattr(frame, "width", 0)), max(height, getattr(frame, "height", 0))
        n_frames += 1
    if not n_frames:
        raise ValueError("the preview holds no picture")
    canvas = _canvas(data)
    return (*(canvas or (width, height)), n_frames)


def last_frame_until(data: bytes, end_ms: int) -> bytes:
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


def stills(data: bytes) -> Iterator[bytes]:
    """Yield each picture of a WebP file as a still WebP file of its own.

    The library decodes still WebP only, so a frame of an animation is put into a file by itself, with its alpha.

    Raises:
        ValueError: the file is not WebP, or it is cut.
    """
    if not is_webp(data):
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
