import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caption_assets.video.container import declared_size, index_is_missing, missing_bytes
from tests.video.films import CLIPS, cut, make_film

ALL_CLIPS = sorted(path.name for path in CLIPS.iterdir())


@pytest.mark.parametrize("name", ALL_CLIPS)
def test_a_whole_clip_says_its_own_size(name):
    assert declared_size(CLIPS / name) == (CLIPS / name).stat().st_size
    assert missing_bytes(CLIPS / name) == 0


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "avi"])
def test_a_cut_file_says_how_much_is_missing(tmp_path, suffix):
    options = {"movflags": "faststart"} if suffix in ("mp4", "mov") else {}
    whole = make_film(tmp_path / f"whole.{suffix}", container_options=options)
    part = cut(whole, tmp_path / f"part.{suffix}", 0.6)
    assert missing_bytes(part) == whole.stat().st_size - part.stat().st_size


def test_streams_without_a_size_show_a_packet_cut_in_two(tmp_path):
    for suffix, codec, container_format, unit in (
        ("mpg", "mpeg2video", "vob", 2048),
        ("ts", "libx264", "mpegts", 188),
    ):
        whole = make_film(tmp_path / f"whole.{suffix}", codec=codec, container_format=container_format)
        assert missing_bytes(whole) == 0
        (tmp_path / "part").write_bytes(whole.read_bytes()[: 5 * unit + unit // 2])
        assert missing_bytes(tmp_path / "part") > 0


def test_a_recording_without_a_segment_size_has_no_declared_size(tmp_path):
    film = make_film(tmp_path / "live.mkv", container_options={"live": "1"})
    assert declared_size(film) is None
    assert missing_bytes(film) == 0


def test_only_a_cut_mp4_lacks_its_index(tmp_path):
    whole = make_film(tmp_path / "whole.mp4")
    assert not index_is_missing(whole)
    assert index_is_missing(cut(whole, tmp_path / "part.mp4", 0.7))
    assert not index_is_missing(CLIPS / "ocean.webm")


HEADS = st.sampled_from(
    [
        b"",
        b"RIFF\x10\x00\x00\x00AVI ",
        b"\x00\x00\x00\x18ftyp",
        b"\x1a\x45\xdf\xa3",
        b"\x00\x00\x01\xba\x44",
        b"G" * 200,
    ]
)


@settings(max_examples=300, deadline=500)
@given(HEADS, st.binary(max_size=400))
def test_no_bytes_make_it_raise_or_hang(tmp_path_factory, head, rest):
    path = tmp_path_factory.getbasetemp() / "any"
    path.write_bytes(head + rest)
    declared_size(path)
    index_is_missing(path)
    assert missing_bytes(path) >= 0
