import functools
import hashlib
from dataclasses import replace

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caption_assets.video import decode
from caption_assets.video.decode import TimesOutOfOrder, decode_frames
from caption_assets.video.probe import UnreadableVideo, probe_clip
from caption_assets.video.to_rgb import UprightScaler
from tests.video.films import CLIPS, make_film, number_of

KINDS = [
    ("b_frames.mp4", {"options": {"bf": "3", "g": "12"}}),
    ("open_gop.mkv", {"options": {"bf": "3", "g": "12", "x264-params": "open-gop=1"}}),
    ("no_times.avi", {"options": {"bf": "3", "g": "12"}}),
    ("xvid.avi", {"codec": "mpeg4", "options": {"bf": "2"}}),
    ("dvd.mpg", {"codec": "mpeg2video", "container_format": "vob", "options": {"bf": "2", "g": "12"}}),
    ("tv.ts", {"container_format": "mpegts"}),
    ("hidden.webm", {"codec": "libvpx", "options": {"auto-alt-ref": "1", "lag-in-frames": "16", "b": "300k"}}),
    ("vp9.webm", {"codec": "libvpx-vp9", "options": {"cpu-used": "8", "deadline": "realtime", "b": "300k"}}),
    ("motion.avi", {"codec": "mjpeg", "pix_fmt": "yuvj420p", "options": {}}),
    ("ten_bit.mp4", {"pix_fmt": "yuv420p10le"}),
    ("full_chroma.mp4", {"pix_fmt": "yuv444p"}),
    ("gray.mp4", {"pix_fmt": "gray"}),
    ("rgb.avi", {"codec": "ffv1", "pix_fmt": "bgr0", "options": {}}),
]


@pytest.fixture(scope="module", params=KINDS, ids=[name for name, _ in KINDS])
def film(request, tmp_path_factory):
    name, how = request.param
    return make_film(tmp_path_factory.mktemp("films") / name, 40, **how)


def test_every_frame_asked_for_shows_its_own_number(film):
    facts = probe_clip(film)
    assert facts.n_frames == 40
    scaler = UprightScaler(facts)
    seen = {index: number_of(scaler.rgb(frame, 96, 160)) for index, frame in decode_frames(film, facts, range(40))}
    assert seen == {index: index for index in range(40)}


def fingerprint(frame):
    """Of the planes, bit by bit."""
    planes = [np.frombuffer(plane, np.uint8).reshape(plane.height, -1)[:, : plane.width] for plane in frame.planes]
    return hashlib.sha256(b"".join(plane.tobytes() for plane in planes)).hexdigest()


@functools.cache
def fingerprints_in_full(path):
    with av.open(str(path)) as container:
        return [fingerprint(frame) for frame in container.decode(video=0)]


@settings(max_examples=8, deadline=None)
@given(wanted=st.sets(st.integers(0, 189), min_size=1, max_size=20))
@pytest.mark.parametrize("name", ["cityCC0.mpg", "ocean.webm"])
def test_chosen_frames_are_bit_equal_to_those_of_a_full_decode(name, wanted):
    path = CLIPS / name
    got = {index: fingerprint(frame) for index, frame in decode_frames(path, probe_clip(path), wanted)}
    assert list(got) == sorted(wanted)
    assert got == {index: fingerprints_in_full(path)[index] for index in wanted}


def test_all_frames_of_a_clip_with_one_key_frame_are_bit_equal_to_a_full_decode():
    path = CLIPS / "bigbuckbunny.mp4"
    got = [fingerprint(frame) for _, frame in decode_frames(path, probe_clip(path), range(132))]
    assert got == fingerprints_in_full(path)


def test_decoding_stops_after_the_last_wanted_frame(monkeypatch):
    path = CLIPS / "ocean.mp4"
    facts = probe_clip(path)
    fed = []
    original = decode._Damage.feed
    monkeypatch.setattr(decode._Damage, "feed", lambda self, *packet: (fed.append(1), original(self, *packet)))
    assert [index for index, _ in decode_frames(path, facts, [3, 5])] == [3, 5]
    assert len(fed) < 20


def damage_packet(film, target, number, n_bytes=40):
    """Overwrite the middle of the packet at `number` in file order."""
    with av.open(str(film)) as container:
        packets = [(p.pos, p.size, p.pts, p.is_keyframe) for p in container.demux(video=0) if p.size]
    position, size, _, _ = packets[number]
    data = bytearray(film.read_bytes())
    middle = position + size // 3
    end = min(middle + n_bytes, position + size)
    data[middle:end] = bytes(0xFF - value for value in data[middle:end])
    target.write_bytes(data)
    return packets


@pytest.mark.parametrize("number", [7, 13, 25])
def test_a_damaged_packet_hides_its_group_and_nothing_else(tmp_path, number):
    options = {"bf": "2", "g": "12", "sc_threshold": "0", "b": "2M"}
    film = make_film(tmp_path / "film.mp4", 48, options=options)
    broken = tmp_path / "broken.mp4"
    packets = damage_packet(film, broken, number)
    facts = probe_clip(broken)
    clean = {i: f.to_ndarray() for i, f in decode_frames(film, facts, range(48))}
    got = {i: f.to_ndarray() for i, f in decode_frames(broken, facts, range(48))}
    assert all(np.array_equal(got[index], clean[index]) for index in got)
    group = sum(key for _, _, _, key in packets[: number + 1])
    keys = [p for _, _, p, key in packets if key]
    starts = [facts.pts.index(pts) for pts in keys] + [48]
    missing = set(range(48)) - set(got)
    assert missing
    assert missing <= set(range(starts[group - 1], starts[group]))


def test_an_error_where_frames_match_by_order_hides_all_that_follows(tmp_path):
    film = make_film(tmp_path / "film.avi", 48, options={"bf": "2", "g": "12", "b": "2M"})
    broken = tmp_path / "broken.avi"
    damage_packet(film, broken, 20)
    facts = probe_clip(broken)
    clean = {i: f.to_ndarray() for i, f in decode_frames(film, facts, range(48))}
    got = {}
    for index, frame in decode_frames(broken, facts, range(48)):
        got[index] = frame.to_ndarray()
    assert 0 < len(got) < 21
    assert all(np.array_equal(got[index], clean[index]) for index in got)


def test_times_that_do_not_match_the_order_of_the_frames_are_noticed(tmp_path):
    film = make_film(tmp_path / "film.avi", 40, options={"bf": "3"})
    facts = probe_clip(film)
    with av.open(str(film)) as container:
        pts = sorted(packet.pts for packet in container.demux(video=0) if packet.size)
    claimed = replace(facts, by_pts=True, pts=tuple(pts))
    with pytest.raises(TimesOutOfOrder):
        list(decode_frames(film, claimed, range(40)))


def test_a_count_that_is_not_that_of_the_packets_is_an_error_where_frames_match_by_order(tmp_path):
    film = make_film(tmp_path / "film.avi", 40, options={"bf": "3"})
    facts = probe_clip(film)
    claimed = replace(facts, n_frames=41, pts=(*facts.pts, facts.pts[-1] + 1))
    with pytest.raises(UnreadableVideo, match="no frame is certain"):
        list(decode_frames(film, claimed, range(40)))


@pytest.mark.parametrize("wanted", [[-1], [132], [0, 500]])
def test_frames_that_are_not_there_cannot_be_wanted(wanted):
    path = CLIPS / "bigbuckbunny.mp4"
    with pytest.raises(ValueError, match="allowed: 0 to 131"):
        list(decode_frames(path, probe_clip(path), wanted))
