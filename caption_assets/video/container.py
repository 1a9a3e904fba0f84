"""How many bytes a video file says it has, read from its outer structure alone.

A file that was cut while it was written or uploaded often plays up to the cut without any error. The container's own
sizes tell. Nothing here calls a video library, raises on what a file holds, or reads more than a bounded part of it.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

MAX_STRUCTURES = 200_000
"""Boxes, chunks or elements walked at most: a day of one-second fragments has 172,800 boxes."""

ISO_FIRST_BOXES = frozenset(
    (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"styp", b"moof", b"sidx", b"uuid")
)
"""Types that the first box of an ISO base media file (MP4, MOV, 3GP) can have."""

ISO_PARENTS = frozenset((b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf"))
"""Boxes that hold the boxes which count samples."""

TRUN_FIELDS = 0xF00
"""Flags of a track run that give each sample bytes of its own in the file (ISO/IEC 14496-12, 8.8.8)."""

EBML_MAGIC = b"\x1a\x45\xdf\xa3"
MATROSKA_SEGMENT = b"\x18\x53\x80\x67"
MPEG_PACK = b"\x00\x00\x01\xba"

MPEG_TAIL_BYTES = 1 << 18
"""Bytes searched for the last pack of an MPEG program stream. A pack holds at most a few of 64 KiB."""

TS_SYNC = 0x47
TS_PACKET_BYTES = (188, 192, 204)
"""MPEG transport stream packets: plain, with a time code (M2TS), with error correction."""
TS_PROBE_PACKETS = 5


def declared_size(path: Path) -> int | None:
    """Return the bytes that the container promises, or None where it does not say or is not known.

    Known are ISO base media (all top-level boxes), AVI (all RIFF chunks), Matroska and WebM (the Segment) and, as far
    as a packet that begins within the file reaches beyond it, MPEG program and transport streams. The answer may be
    less than the file has: trailing bytes are not counted.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        actual = path.stat().st_size
        head = file.read(16)
        if head[4:8] in ISO_FIRST_BOXES:
            return max((end for _, end in _iso_boxes(file, actual)), default=None)
        if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
            return _riff_size(file, actual)
        if head[:4] == EBML_MAGIC:
            return _matroska_size(file, actual)
        if head[:4] == MPEG_PACK:
            return _program_stream_size(file, actual)
        return _transport_stream_size(file, actual)


def missing_bytes(path: Path) -> int:
    """Return how many of the bytes that the container promises are not in the file; 0 when all are or none is known."""
    return max(0, (declared_size(path) or 0) - path.stat().st_size)


def index_is_missing(path: Path) -> bool:
    """Tell whether this is an ISO base media file (MP4, MOV) without its index, the `moov` box."""
    with path.open("rb") as file:
        actual = path.stat().st_size
        if file.read(8)[4:8] not in ISO_FIRST_BOXES:
            return False
        return all(kind != b"moov" for kind, _ in _iso_boxes(file, actual))


def unlisted_samples(path: Path) -> int:
    """Return the most samples that an ISO base media file promises in one number, without a byte for each of them.

    A library makes a table of all samples before it reads one, so a file of a few hundred bytes can ask for gigabytes:
    a sample table of one constant size (`stsz`), or a track run without fields (`trun`). Uncompressed sound, whose
    samples are read by the chunk, is not counted.
    """
    with path.open("rb") as file:
        actual = path.stat().st_size
        if file.read(8)[4:8] not in ISO_FIRST_BOXES:
            return 0
        return _unlisted_samples(file, 0, actual)


def _unlisted_samples(file: BinaryIO, start: int, end: int) -> int:
    runs: list[int] = [0]
    tables: list[tuple[int, bool]] = [(0, False)]  # of each track: samples of one size, and whether read by the chunk
    pending = [(start, end)]
    for _ in range(MAX_STRUCTURES):
        if not pending:
            break
        position, parent_end = pending.pop()
        if position + 8 > parent_end:
            continue
        file.seek(position)
        header = file.read(24)
        size, kind, fields = int.from_bytes(header[:4], "big"), header[4:8], header[8:]
        inner = position + 8
        if size == 1:
            size, inner = int.from_bytes(header[8:16], "big"), position + 16
        elif size == 0:
            size = parent_end - position
        if size < 8:
            continue
        pending.append((position + size, parent_end))
        if kind in ISO_PARENTS:
            if kind == b"trak":
                tables.append((0, False))
            pending.append((inner, min(position + size, parent_end)))
        elif kind == b"stts":
            tables[-1] = (tables[-1][0], fields[4:8] == fields[12:16] == b"\0\0\0\1")
        elif kind == b"stsz" and any(fields[4:8]):
            tables[-1] = (int.from_bytes(fields[8:12], "big"), tables[-1][1])
        elif kind == b"trun" and not int.from_bytes(fields[1:4], "big") & TRUN_FIELDS:
            runs.append(int.from_bytes(fields[4:8], "big"))
    return max(*runs, *(count for count, by_the_chunk in tables if not by_the_chunk), 0)


def _iso_boxes(file: BinaryIO, actual: int) -> Iterator[tuple[bytes, int]]:
    """Yield the type and the end (bytes from the start of the file) of each top-level box, until one makes no sense."""
    position = 0
    for _ in range(MAX_STRUCTURES):
        if position >= actual:
            return
        file.seek(position)
        header = file.read(16)
        if len(header) < 8:
            yield b"", position + 8
            return
        size, kind = int.from_bytes(header[:4], "big"), header[4:8]
        if not all(0x20 <= byte < 0x7F or byte == 0xA9 for byte in kind):
            return
        if size == 0:
            size = actual - position
        elif size == 1:
            if len(header) < 16:
                yield kind, position + 16
                return
            size = int.from_bytes(header[8:16], "big")
        if size < 8:
            return
        position += size
        yield kind, position


def _riff_size(file: BinaryIO, actual: int) -> int | None:
    """Return the end of the last RIFF chunk; an OpenDML file has several. None when a recorder never filled it in."""
    position = 0
    for _ in range(MAX_STRUCTURES):
        file.seek(position)
        header = file.read(12)
        if len(header) < 12 or header[:4] != b"RIFF" or header[8:12] not in (b"AVI ", b"AVIX"):
            break
        size = int.from_bytes(header[4:8], "little")
        if size in (0, 0xFFFFFFFF):
            return None
        position += 8 + size
        if position >= actual:
            break
        position += size & 1  # chunks start at even offsets
    return position or None


def _matroska_size(file: BinaryIO, actual: int) -> int | None:
    """Return the end of the Segment, or None when its size is unknown, as in a live recording."""
    position = 0
    for _ in range(64):  # the EBML header, then perhaps a few Void elements, then the Segment
        if position >= actual:
            return None
        file.seek(position)
        header = file.read(12)
        id_bytes = 9 - header[0].bit_length()
        if id_bytes > 4 or len(header) <= id_bytes:
            return None
        first = header[id_bytes]
        size_bytes = 9 - first.bit_length()
        if size_bytes > 8 or len(header) < id_bytes + size_bytes:
            return None
        value_bits = 7 * size_bytes
        size = int.from_bytes(header[id_bytes : id_bytes + size_bytes], "big") & ((1 << value_bits) - 1)
        if size == (1 << value_bits) - 1:
            return None
        position += id_bytes + size_bytes + size
        if header[:id_bytes] == MATROSKA_SEGMENT:
            return position
    return None


def _program_stream_size(file: BinaryIO, actual: int) -> int | None:
    """Return the end of the last packet of an MPEG program stream, walked from its last pack header."""
    base = max(0, actual - MPEG_TAIL_BYTES)
    file.seek(base)
    tail = file.read(MPEG_TAIL_BYTES)
    position = tail.rfind(MPEG_PACK)
    if position < 0:
        return None
    for _ in range(MAX_STRUCTURES):
        start_code = tail[position : position + 4]
        if not start_code:
            break
        if len(start_code) < 4:
            return base + position + 4
        if start_code[:3] != b"\x00\x00\x01":
            break
        if start_code == MPEG_PACK:
            is_mpeg2 = tail[position + 4 : position + 5] and tail[position + 4] >> 6 == 1
            length = 14 if is_mpeg2 else 12
            if is_mpeg2 and position + 14 <= len(tail):
                length += tail[position + 13] & 7
        elif start_code[3] == 0xB9:
            length = 4
        elif start_code[3] >= 0xBB:
            length = 6 + int.from_bytes(tail[position + 4 : position + 6], "big")
        else:
            break
        position += length
    return base + position


def _transport_stream_size(file: BinaryIO, actual: int) -> int | None:
    """Return the end of the last packet of an MPEG transport stream, or None for anything else."""
    file.seek(0)
    head = file.read(max(TS_PACKET_BYTES) * TS_PROBE_PACKETS)
    for packet_bytes in TS_PACKET_BYTES:
        sync = 4 if packet_bytes == 192 else 0
        marks = head[sync::packet_bytes]
        if len(marks) >= TS_PROBE_PACKETS and all(mark == TS_SYNC for mark in marks[:TS_PROBE_PACKETS]):
            return -(-actual // packet_bytes) * packet_bytes
    return None
