"""Which packets a decoder can really start at: every frame after such a packet is exact without anything before it.

A container marks "key" packets. In H.264 that may be a frame from which the picture only heals over the next frames
(gradual refresh), so the packet itself is asked: an IDR picture, or a recovery point after 0 frames (ITU-T H.264,
7.4.1.2.4 and D.2.8). In HEVC it is any IRAP picture (ITU-T H.265, 7.4.2.2). Pictures that are shown before such a
packet and follow it in the file ("leading pictures") may still refer to what came before.
"""

from collections.abc import Iterator

H264_IDR, H264_SEI = 5, 6
H264_SEI_RECOVERY_POINT = 6
HEVC_IRAP = range(16, 24)

KEY_IS_RANDOM_ACCESS = frozenset(
    (
        "mpeg1video", "mpeg2video", "mpeg4", "msmpeg4v2", "msmpeg4v3", "h263", "vp8", "vp9",
        "mjpeg", "prores", "dnxhd", "ffv1", "rawvideo", "huffyuv", "ffvhuff", "png", "qtrle", "utvideo",
    )
)  # fmt: skip
"""Codecs whose key frames are whole pictures after which nothing refers further back, but for leading pictures."""


def is_random_access(packet: bytes | memoryview, codec: str, extradata: bytes | None) -> bool:
    """Tell whether decoding may start at a packet that its container marks as key.

    Args:
        packet: the bytes of one access unit.
        codec: the library's name of it; False for one that is not known to be safe.
        extradata: of the stream; tells how the units in an H.264 or HEVC packet are delimited.
    """
    if codec == "h264":
        return any(_h264_starts(unit) for unit in _units(memoryview(packet), _length_bytes(extradata, 4)))
    if codec == "hevc":
        units = _units(memoryview(packet), _length_bytes(extradata, 21))
        return any((unit[0] >> 1 & 0x3F) in HEVC_IRAP for unit in units)
    return codec in KEY_IS_RANDOM_ACCESS


def _h264_starts(unit: memoryview) -> bool:
    kind = unit[0] & 0x1F
    if kind == H264_IDR:
        return True
    return kind == H264_SEI and _recovers_at_once(unit[1:])


def _recovers_at_once(sei: memoryview) -> bool:
    """Tell whether one of the messages is a recovery point with recovery_frame_cnt 0, the code whose first bit is 1."""
    at = 0
    while at + 2 < len(sei):
        kind = size = 0
        while at < len(sei) and sei[at] == 0xFF:
            kind, at = kind + 0xFF, at + 1
        if at + 1 >= len(sei):
            return False
        kind, at = kind + sei[at], at + 1
        while at < len(sei) and sei[at] == 0xFF:
            size, at = size + 0xFF, at + 1
        if at + 1 >= len(sei):
            return False
        size, at = size + sei[at], at + 1
        if kind == H264_SEI_RECOVERY_POINT and size:
            return bool(sei[at] & 0x80)
        at += size
    return False


def _length_bytes(extradata: bytes | None, at: int) -> int | None:
    """Return the size of the length before each unit, from avcC or hvcC; None where start codes delimit them."""
    if not extradata or extradata[0] != 1 or len(extradata) <= at:
        return None
    return (extradata[at] & 3) + 1


def _units(data: memoryview, length_bytes: int | None) -> Iterator[memoryview]:
    """Yield the NAL units of a packet that are not empty, without what delimits them."""
    if length_bytes is None:
        yield from _units_after_start_codes(bytes(data))
        return
    at = 0
    while at + length_bytes < len(data):
        size = int.from_bytes(data[at : at + length_bytes], "big")
        at += length_bytes
        if size and at < len(data):
            yield data[at : at + size]
        at += size


def _units_after_start_codes(data: bytes) -> Iterator[memoryview]:
    view = memoryview(data)
    start = data.find(b"\x00\x00\x01")
    while start >= 0:
        following = data.find(b"\x00\x00\x01", start + 3)
        unit = view[start + 3 : following if following >= 0 else len(data)]
        if unit:
            yield unit
        start = following
