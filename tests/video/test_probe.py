from fractions import Fraction
from pathlib import Path

import av
import pytest

from caption_assets.settings.groups import ClipSettings
from caption_assets.video.demux import video_packets
from caption_assets.video.probe import UnreadableVideo, probe_clip
from tests.video.films import CLIPS, HEIGHT, WIDTH, cut, make_film, remux

ODD_NAMES = [
    "with space.mp4", "quote'and\"quote.mp4", "ünïcödé 映像.mp4", "new\nline.mp4", "concat:a|b.mp4", "-i.mp4",
    "%03d.mp4", "file:x.mp4", "http:x.mp4", "no_suffix", "playlist.m3u8",
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "n_frames", "first_s", "duration_s", "fps", "size"),
    [
        ("bigbuckbunny.mp4", 132, 0.0, 5.28, 25.0, (1280, 720)),
        ("cityCC0.mpg", 190, 0.54, 7.6, 25.0, (720, 405)),
        ("ocean.mp4", 240, 0.0, 10.0, 24.0, (1280, 720)),
        ("ocean.webm", 240, 0.003, 9.999, 24.0, (1280, 720)),
    ],
)
def test_the_demo_clips_are_what_they_are(name, n_frames, first_s, duration_s, fps, size):
    facts = probe_clip(CLIPS / name)
    assert facts.n_frames == len(facts.pts) == len(facts.times_s) == n_frames
    assert facts.first_pts_s == pytest.approx(first_s)
    assert facts.times_s[0] == 0.0
    assert facts.duration_s == pytest.approx(duration_s, abs=0.002)
    assert facts.fps == pytest.approx(fps, abs=0.001)
    assert (facts.display_width, facts.display_height) == size
    assert facts.by_pts
    assert not facts.is_vfr
    assert "truncated" not in facts.flags
    assert facts.bytes == (CLIPS / name).stat().st_size


@pytest.mark.parametrize("name", ["ocean.webm", "cityCC0.mpg"])
def test_a_header_without_a_frame_count_gives_the_true_frames_and_a_flag(name):
    facts = probe_clip(CLIPS / name)
    assert facts.declared_frames == 0
    assert "no_frame_count" in facts.flags
    with av.open(str(CLIPS / name)) as container:
        assert facts.n_frames == sum(1 for _ in container.decode(video=0))


def test_pts_are_the_times_that_decoded_frames_have():
    for name in ("bigbuckbunny.mp4", "cityCC0.mpg", "ocean.webm"):
        with av.open(str(CLIPS / name)) as container:
            assert list(probe_clip(CLIPS / name).pts) == [frame.pts for frame in container.decode(video=0)]


def test_hidden_reference_pictures_of_vp8_are_not_frames(tmp_path):
    film = make_film(
        tmp_path / "hidden.webm", 60, codec="libvpx", options={"auto-alt-ref": "1", "lag-in-frames": "16", "b": "80k"}
    )
    assert probe_clip(film).n_frames == 60


@pytest.mark.parametrize("held", [0.5, 0.8])
@pytest.mark.parametrize("suffix", ["mp4", "webm", "avi", "mkv"])
def test_a_cut_file_whose_index_survives_gives_the_frames_that_are_wholly_there(tmp_path, suffix, held):
    codec = {"webm": "libvpx", "avi": "mpeg4"}.get(suffix, "libx264")
    whole = make_film(
        tmp_path / f"whole.{suffix}",
        codec=codec,
        options={"g": "12"},
        container_options={"movflags": "faststart"} if suffix == "mp4" else {},
    )
    part = cut(whole, tmp_path / f"part.{suffix}", held)
    with av.open(str(whole)) as container:
        ends = [packet.pos + packet.size for packet in container.demux(video=0) if packet.size]
    there = sum(end <= part.stat().st_size for end in ends)
    facts = probe_clip(part)
    # The library may count a block's header into a packet's position, hence one frame of doubt.
    assert there - 1 <= facts.n_frames <= there
    assert 0 < facts.n_frames < 50
    assert "truncated" in facts.flags
    assert f"{part.stat().st_size:,}" in facts.notes[0]


def test_a_cut_mpg_is_flagged_and_every_frame_it_lists_decodes(tmp_path):
    facts = probe_clip(cut(CLIPS / "cityCC0.mpg", tmp_path / "part.mpg", 0.4371))
    assert "truncated" in facts.flags
    with av.open(str(tmp_path / "part.mpg")) as container:
        clean = {frame.pts for frame in container.decode(video=0) if not frame.is_corrupt}
    assert set(facts.pts) <= clean


def test_an_mp4_cut_before_its_index_says_so_and_what_to_do(tmp_path):
    part = cut(CLIPS / "ocean.mp4", tmp_path / "part.mp4", 0.5)
    with pytest.raises(UnreadableVideo, match=r"index \(moov\) is missing.*upload it again"):
        probe_clip(part)


def test_an_avi_header_that_promises_more_frames_is_only_a_flag(tmp_path):
    film = make_film(tmp_path / "a.avi", codec="mpeg4", options={})
    data = bytearray(film.read_bytes())
    at = data.index(b"avih") + 8 + 16  # dwTotalFrames of the main header
    data[at : at + 4] = (500).to_bytes(4, "little")
    at = data.index(b"strh") + 8 + 32  # dwLength of the stream header
    data[at : at + 4] = (500).to_bytes(4, "little")
    film.write_bytes(data)
    facts = probe_clip(film)
    assert facts.n_frames == 50
    assert facts.declared_frames == 500
    assert "header_frame_count_wrong" in facts.flags


@pytest.mark.parametrize("name", ODD_NAMES)
def test_any_file_name_is_only_a_name(tmp_path, name):
    if "/" in name:
        pytest.skip("not a file name")
    (tmp_path / name).write_bytes((CLIPS / "ocean.webm").read_bytes())
    assert probe_clip(tmp_path / name).n_frames == 240


def test_a_relative_name_with_a_leading_dash_opens(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_film(Path("-y.mp4"), 5)
    assert probe_clip(Path("-y.mp4")).n_frames == 5


def hostile_files(folder):
    target = (CLIPS / "ocean.mp4").resolve()
    contents = {
        "empty": b"",
        "garbage": bytes(range(256)) * 64,
        "text": b"hello\n" * 100,
        "ffconcat": f"ffconcat version 1.0\nfile {target}\n".encode(),
        "m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{target}\n#EXT-X-ENDLIST\n".encode(),
        "xspf": f"<?xml version='1.0'?><MPD><BaseURL>{target}</BaseURL></MPD>".encode(),
        "zeros": bytes(100_000),
        "only_ftyp": b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isomiso2",
    }
    for name, data in contents.items():
        path = folder / f"{name}.mp4"
        path.write_bytes(data)
        yield name, path
    yield "folder", folder
    yield "nothing there", folder / "none.mp4"


def test_what_is_no_video_is_refused_in_one_line_without_paths(tmp_path):
    for name, path in hostile_files(tmp_path):
        with pytest.raises(UnreadableVideo) as refusal:
            probe_clip(path)
        reason = str(refusal.value)
        assert reason, name
        assert "\n" not in reason, name
        assert str(tmp_path) not in reason, name


def test_a_playlist_named_mp4_never_opens_the_file_it_names(tmp_path):
    for name, path in hostile_files(tmp_path):
        if name in ("ffconcat", "m3u8", "xspf"):
            with pytest.raises(UnreadableVideo, match="not a video container"):
                probe_clip(path)


@pytest.mark.parametrize(("codec", "container_format"), [("mjpeg", "image2pipe"), ("gif", "gif")])
def test_a_picture_named_mp4_is_refused(tmp_path, codec, container_format):
    film = make_film(
        tmp_path / "picture.mp4",
        1,
        codec=codec,
        pix_fmt="yuvj420p" if codec == "mjpeg" else "rgb8",
        options={},
        container_format=container_format,
    )
    with pytest.raises(UnreadableVideo, match="not a video container"):
        probe_clip(film)


def sound_only(path, with_cover):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        cover = None
        if with_cover:
            cover = container.add_stream("mjpeg", rate=1)
            cover.width = cover.height = 64
            cover.pix_fmt = "yuvj420p"
            cover.disposition = av.stream.Disposition.attached_pic
        for start in range(0, 44100, 1024):
            frame = av.AudioFrame(format="fltp", layout="mono", samples=1024)
            frame.planes[0].update(bytes(4096))
            frame.sample_rate, frame.pts = 44100, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if cover is not None:
            container.mux(cover.encode(av.VideoFrame(64, 64, "yuvj420p")))
            container.mux(cover.encode(None))
    return path


def test_sound_without_pictures_is_refused(tmp_path):
    with pytest.raises(UnreadableVideo, match="only audio"):
        probe_clip(sound_only(tmp_path / "sound.mp4", with_cover=False))


def test_cover_art_is_no_video(tmp_path):
    with pytest.raises(UnreadableVideo, match="cover art"):
        probe_clip(sound_only(tmp_path / "sound.mp4", with_cover=True))


@pytest.mark.parametrize(("rotation", "clockwise"), [(0, 0), (90, 270), (-90, 90), (180, 180)])
def test_a_turned_clip_says_how_to_turn_it_upright(tmp_path, rotation, clockwise):
    facts = probe_clip(make_film(tmp_path / "turned.mp4", 5, rotation=rotation))
    assert facts.rotation == clockwise
    assert ("rotated" in facts.flags) == bool(rotation)
    upright = (WIDTH, HEIGHT) if clockwise in (0, 180) else (HEIGHT, WIDTH)
    assert (facts.display_width, facts.display_height) == upright


def test_non_square_pixels_widen_the_display(tmp_path):
    facts = probe_clip(make_film(tmp_path / "wide.mp4", 5, aspect=Fraction(4, 3)))
    assert facts.sample_aspect_ratio == Fraction(4, 3)
    assert (facts.display_width, facts.display_height) == (round(WIDTH * 4 / 3), HEIGHT)
    assert "non_square_pixels" in facts.flags


def test_a_hole_makes_a_clip_vfr_and_millisecond_rounding_does_not(tmp_path):
    rounded = make_film(tmp_path / "rounded.mkv", 60, rate=30)
    assert not probe_clip(rounded).is_vfr
    holed = make_film(tmp_path / "holed.mkv", 60, rate=30, pts=[*range(30), *range(36, 66)])
    facts = probe_clip(holed)
    assert facts.is_vfr
    assert "vfr" in facts.flags
    assert facts.times_s[30] == pytest.approx(36 / 30, abs=0.001)


def test_two_rates_one_after_the_other_are_vfr(tmp_path):
    slowing = [*range(0, 60, 2), *range(60, 150, 3)]
    assert probe_clip(make_film(tmp_path / "two.mp4", 60, pts=slowing, time_base=Fraction(1, 60))).is_vfr


def test_times_count_from_the_first_frame_wherever_it_starts(tmp_path):
    film = make_film(tmp_path / "film.mp4", options={"bf": "0"})
    late = probe_clip(remux(film, tmp_path / "late.mkv", shift_s=1.48))
    assert late.first_pts_s == pytest.approx(1.48)
    assert late.times_s[:2] == pytest.approx((0.0, 0.04))
    assert "late_start" in late.flags


def test_frames_that_an_edit_list_cuts_away_are_not_counted(tmp_path):
    film = make_film(tmp_path / "film.mp4", options={"bf": "0", "g": "50"})
    with av.open(str(film)) as container:
        shown = [frame.pts for frame in container.decode(video=0)]
    edited = remux(film, tmp_path / "edited.mp4", shift_s=-0.4)
    facts = probe_clip(edited)
    assert facts.n_frames == len(shown) - 10
    with av.open(str(edited)) as container:
        assert list(facts.pts) == [frame.pts for frame in container.decode(video=0)]


@pytest.mark.parametrize("n_frames", [1, 2, 3])
def test_the_shortest_clips_have_a_length(tmp_path, n_frames):
    facts = probe_clip(make_film(tmp_path / "short.mp4", n_frames))
    assert facts.n_frames == n_frames
    assert facts.duration_s == pytest.approx(n_frames / 25, abs=0.001)
    assert facts.fps == pytest.approx(25)
    assert not facts.is_vfr


def test_h264_in_avi_has_no_times_of_its_own(tmp_path):
    facts = probe_clip(make_film(tmp_path / "b.avi", options={"bf": "3"}))
    assert facts.n_frames == 50
    assert not facts.by_pts
    assert "missing_pts" in facts.flags
    assert facts.times_s == pytest.approx([index / 25 for index in range(50)])


def test_a_stream_cut_out_of_another_counts_from_its_first_decodable_frame(tmp_path):
    film = make_film(tmp_path / "whole.ts", 60, codec="mpeg2video", container_format="mpegts")
    data = film.read_bytes()
    part = tmp_path / "part.ts"
    part.write_bytes(data[len(data) // 3 // 188 * 188 :])
    facts = probe_clip(part)
    with av.open(str(part)) as container:
        assert list(facts.pts) == [frame.pts for frame in container.decode(video=0)]


def test_a_stream_that_begins_in_the_middle_of_a_file_does_not_end_the_reading_badly():
    class Demuxer:
        def demux(self, stream):
            yield av.Packet(b"picture")
            yield av.Packet()
            yield av.Packet(b"picture")
            raise IndexError("list index out of range")

    assert [packet.size for packet in video_packets(Demuxer(), None)] == [7, 7, 0]


def test_a_damaged_transport_stream_is_read_on_after_the_damage():
    class Demuxer:
        calls = 0

        def demux(self, stream):
            self.calls += 1
            yield av.Packet(b"picture")
            if self.calls < 3:
                raise BlockingIOError(11, "Resource temporarily unavailable")

    assert [packet.size for packet in video_packets(Demuxer(), None)] == [7, 7, 7, 0]


def test_ten_bits_are_reported(tmp_path):
    facts = probe_clip(make_film(tmp_path / "ten.mp4", 5, pix_fmt="yuv420p10le"))
    assert (facts.bit_depth, facts.pix_fmt) == (10, "yuv420p10le")


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (ClipSettings(max_pixels=4096), "pixels"),
        (ClipSettings(max_frames=10), "over 10 frames"),
        (ClipSettings(max_duration_s=1.0), "up to 1 s"),
        (ClipSettings.model_construct(max_streams=0), "streams"),
    ],
)
def test_a_clip_over_a_limit_is_refused_with_the_limit(limits, message):
    with pytest.raises(UnreadableVideo, match=message):
        probe_clip(CLIPS / "ocean.mp4", limits)


def test_a_clip_with_more_packets_than_its_frames_can_need_is_refused(monkeypatch):
    monkeypatch.setattr(ClipSettings, "max_packets", 10)
    with pytest.raises(UnreadableVideo, match="over 10 packets"):
        probe_clip(CLIPS / "ocean.mp4")
