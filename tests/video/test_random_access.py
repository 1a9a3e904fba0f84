"""Packets that decoding can start at, told from their own bytes."""

import pytest

from caption_assets.video.random_access import is_random_access

IDR, SLICE, SPS = b"\x65\x88", b"\x41\x9a", b"\x67\x64"
AVCC = bytes([1, 100, 0, 31, 0xFF, 0xE1])
"""The start of an avcC record: units are preceded by lengths of 4 bytes (ISO/IEC 14496-15, 5.3.3.1)."""


def recovery_sei(first_byte: int, before: bytes = b"") -> bytes:
    """An SEI unit with a recovery point, after other messages."""
    return b"\x06" + before + bytes([6, 1, first_byte]) + b"\x80"


def annex_b(*units: bytes) -> bytes:
    return b"".join(b"\x00\x00\x00\x01" + unit for unit in units)


def with_lengths(*units: bytes) -> bytes:
    return b"".join(len(unit).to_bytes(4, "big") + unit for unit in units)


AT_ONCE, AFTER_FRAMES = 0b1110_0000, 0b0101_1000  # recovery_frame_cnt as ue(v): "1" is 0, "010" is 1
LONG_MESSAGE = bytes([5, 0xFF, 2]) + bytes(257)


@pytest.mark.parametrize(
    ("units", "expected"),
    [
        ([IDR], True),
        ([SPS, IDR], True),
        ([SLICE], False),
        ([recovery_sei(AT_ONCE), SLICE], True),
        ([recovery_sei(AT_ONCE, LONG_MESSAGE), SLICE], True),
        ([recovery_sei(AFTER_FRAMES), SLICE], False),
        ([b"\x06\x05\x01\x80\x80", SLICE], False),
        ([], False),
    ],
)
def test_h264_starts_at_idr_pictures_and_at_recovery_points_that_need_no_frames(units, expected):
    assert is_random_access(annex_b(*units), "h264", None) is expected
    assert is_random_access(with_lengths(*units), "h264", AVCC) is expected


@pytest.mark.parametrize(
    ("kind", "expected"), [(16, True), (19, True), (21, True), (23, True), (1, False), (32, False)]
)
def test_hevc_starts_at_irap_pictures(kind, expected):
    unit = bytes([kind << 1, 1, 0x40])
    hvcc = bytes([1]) + bytes(20) + bytes([0b1111_1111, 0])
    assert is_random_access(annex_b(unit), "hevc", None) is expected
    assert is_random_access(with_lengths(unit), "hevc", hvcc) is expected


@pytest.mark.parametrize(("codec", "expected"), [("vp9", True), ("mpeg2video", True), ("libdav1d", False), ("", False)])
def test_key_frames_of_other_codecs_are_trusted_where_nothing_refers_behind_them(codec, expected):
    assert is_random_access(b"\x00", codec, None) is expected


@pytest.mark.parametrize("extradata", [None, b"", AVCC, b"\x01"])
@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_damaged_packets_are_no_start_and_no_crash(codec, extradata):
    whole = annex_b(SPS, recovery_sei(AT_ONCE, LONG_MESSAGE))
    for end in range(0, len(whole) - 3, 7):
        is_random_access(whole[:end], codec, extradata)
    assert not is_random_access(b"\xff" * 40, codec, extradata)
    assert not is_random_access(b"\x06\xff\xff", codec, extradata)
