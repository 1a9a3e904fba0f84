"""Decoding only what the wanted frames need gives the same pictures, bit for bit, as decoding everything."""

import random
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import PictureType
from hypothesis import given
from hypothesis import strategies as st

from caption_assets.settings.groups import WindowSettings
from caption_assets.video import decode
from caption_assets.video.decode import decode_frames
from caption_assets.video.pack import plan_clip
from caption_assets.video.probe import ClipFacts, probe_clip
from caption_assets.video.sparse import SPARSE_CODECS, Feed, PacketIndex, plan_feed
from tests.video.encoders import repeatable, start_encoding
from tests.video.films import CLIPS

N_FRAMES = 72
SIZE = (320, 180)


@dataclass(frozen=True)
class Film:
    """How a film is encoded. saves: whether some packets need not be decoded for two frames a second."""

    name: str
    codec: str
    options: dict[str, str]
    pix_fmt: str = "yuv420p"
    saves: bool = True


def x264(params: str, name: str, **more: str) -> Film:
    return Film(name, "libx264", {"preset": "veryfast", "x264-params": params, **more})


def x265(params: str, name: str, pix_fmt: str = "yuv420p") -> Film:
    return Film(name, "libx265", {"preset": "ultrafast", "x265-params": f"log-level=none:{params}"}, pix_fmt)


FILMS = (
    x264("bframes=3:keyint=24", "h264_closed.mp4"),
    x264("bframes=4:open-gop=1:keyint=20:min-keyint=20:scenecut=0:ref=5", "h264_open.mp4"),
    x264("bframes=4:open-gop=1:keyint=20:min-keyint=20:scenecut=0:ref=5:b-pyramid=normal", "h264_open.ts"),
    x264("bframes=5:b-pyramid=strict:keyint=1000:weightp=2", "h264_long.mkv"),
    x264("tff=1:bframes=3:keyint=20", "h264_interlaced.mp4", flags="+ildct+ilme"),
    x264("intra-refresh=1:bframes=2:keyint=20", "h264_refresh.mp4"),
    x264("slices=4:bframes=2:keyint=30", "h264_fragments.mp4"),
    Film("h264_10bit.mkv", "libx264", {"preset": "veryfast", "x264-params": "bframes=3:keyint=24"}, "yuv420p10le"),
    x265("bframes=4:open-gop=1:keyint=24:b-pyramid=1", "hevc_open.mp4"),
    x265("bframes=4:open-gop=1:keyint=24", "hevc_open.ts"),
    x265("bframes=3:open-gop=0:keyint=24", "hevc_closed.mkv", "yuv420p10le"),
    Film("vp9.webm", "libvpx-vp9", {"g": "24", "deadline": "realtime", "cpu-used": "8", "auto-alt-ref": "1"}),
    Film("vp8.webm", "libvpx", {"g": "24", "deadline": "realtime", "cpu-used": "8"}),
    Film("av1.mp4", "libsvtav1", {"g": "24", "preset": "12"}, saves=False),
    Film("mpeg2_open.mpg", "mpeg2video", {"g": "12", "bf": "2", "b": "1000000"}),
    Film("mpeg2_interlaced.ts", "mpeg2video", {"g": "12", "bf": "2", "flags": "+ildct+ilme", "b": "1000000"}),
    Film("mpeg1.mpg", "mpeg1video", {"g": "12", "bf": "2", "b": "1000000"}),
    Film("mpeg4.avi", "mpeg4", {"g": "24", "bf": "2", "b": "1000000"}),
    Film("mpeg4.mp4", "mpeg4", {"g": "24", "bf": "2", "b": "1000000"}),
    Film("mjpeg.avi", "mjpeg", {}, "yuvj420p"),
    Film("prores.mov", "prores_ks", {}, "yuv422p10le"),
    Film("wmv.mkv", "msmpeg4", {"g": "12"}, saves=False),
)


@pytest.fixture(scope="module")
def pictures() -> list[av.VideoFrame]:
    """Frames of a real film, small, with a cut in the middle."""
    found = []
    for clip in ("bigbuckbunny.mp4", "ocean.mp4"):
        with av.open(str(CLIPS / clip)) as container:
            for frame, _ in zip(container.decode(video=0), range(N_FRAMES // 2), strict=False):
                found.append(frame.reformat(*SIZE, format="yuv420p"))
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("films")


def encode(folder: Path, film: Film, pictures: list[av.VideoFrame]) -> Path:
    path = folder / film.name
    options = {"movflags": "frag_keyframe+empty_moov"} if "fragments" in film.name else {}
    with av.open(str(path), "w", container_options=options) as container:
        stream = container.add_stream(film.codec, rate=24, options=repeatable(film.codec, film.options))
        stream.width, stream.height = SIZE
        stream.pix_fmt = film.pix_fmt
        stream.codec_context.thread_count = 1
        start_encoding(container)
        for number, picture in enumerate(pictures):
            frame = picture.reformat(format=film.pix_fmt)
            frame.pts, frame.time_base = number, Fraction(1, 24)
            frame.pict_type = PictureType.NONE  # the encoder decides
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def pixels(frame: av.VideoFrame) -> bytes:
    """The visible samples of every plane."""
    planes = []
    for plane in frame.planes:
        lines = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: plane.height]
        n_bytes = plane.width * (2 if frame.format.components[0].bits > 8 else 1)
        planes.append(lines[:, :n_bytes].tobytes())
    return b"".join(planes)


def every_frame(path: Path) -> list[bytes]:
    """All frames by a plain decode with the library alone, in order."""
    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "NONE"
        return [pixels(frame) for frame in container.decode(video=0)]


def choices(facts: ClipFacts) -> Iterator[set[int]]:
    """Sets of wanted frames: as windows are sampled, and at random."""
    for fps in (0.5, 2, 5, 12):
        yield {i for window in plan_clip(facts, WindowSettings(sampling_fps=fps)) for i in window.frame_indices}
    chance = random.Random(facts.codec)
    for n in (1, 1, 1, 2, 3, 5, 8, 13, 21):
        yield set(chance.sample(range(facts.n_frames), n))
    yield {facts.n_frames - 1}


def check_against_a_plain_decode(path: Path, monkeypatch: pytest.MonkeyPatch) -> ClipFacts:
    whole = every_frame(path)
    facts = probe_clip(path)
    assert facts.n_frames == len(whole)
    passes = []
    by_time = decode._decode_by_time

    def noting(packets, stream, facts, wanted, feeds):
        passes.append(feeds is not None)
        return by_time(packets, stream, facts, wanted, feeds)

    monkeypatch.setattr(decode, "_decode_by_time", noting)
    n_choices = 0
    for wanted in choices(facts):
        n_choices += 1
        got = {index: pixels(frame) for index, frame in decode_frames(path, facts, wanted)}
        assert sorted(got) == sorted(wanted)
        assert [index for index in got if got[index] != whole[index]] == []
    # One pass each: nothing had to be decoded a second time.
    assert passes == [facts.codec in SPARSE_CODECS] * n_choices
    return facts


@pytest.mark.parametrize("film", FILMS, ids=lambda film: film.name)
def test_the_frames_are_those_of_a_plain_decode(film, pictures, folder, monkeypatch):
    if film.codec not in av.codecs_available:
        pytest.skip(f"this build of the library has no {film.codec}")
    facts = check_against_a_plain_decode(encode(folder, film, pictures), monkeypatch)
    wanted = {facts.pts[i] for window in plan_clip(facts, WindowSettings()) for i in window.frame_indices}
    plan = plan_feed(facts.packets, wanted)
    if film.saves:
        assert plan.count(Feed.WHOLE) < len(plan)
    else:
        assert facts.codec not in SPARSE_CODECS


@pytest.mark.parametrize("name", ["bigbuckbunny.mp4", "cityCC0.mpg", "ocean.mp4", "ocean.webm"])
def test_the_frames_of_the_demo_clips_are_those_of_a_plain_decode(name, monkeypatch):
    check_against_a_plain_decode(CLIPS / name, monkeypatch)


@pytest.mark.parametrize("name", ["h264_open.mp4", "hevc_open.mp4", "mpeg4.mp4"])
def test_frames_before_an_edit_list_are_decoded_but_not_shown(name, pictures, folder, monkeypatch):
    """A file cut at its second key frame without encoding it anew, as phones do when a video is trimmed."""
    [film] = [film for film in FILMS if film.name == name]
    source, trimmed = encode(folder, film, pictures), folder / f"trimmed_{name}"
    with av.open(str(source)) as whole, av.open(str(trimmed), "w") as part:
        stream = part.add_stream_from_template(whole.streams.video[0])
        first = None
        for packet in whole.demux(video=0):
            if packet.dts is None or (first is None and not (packet.is_keyframe and packet.pts > 0)):
                continue
            first = packet.dts if first is None else first
            packet.stream = stream
            packet.dts -= first
            packet.pts -= first
            part.mux(packet)
    facts = probe_clip(trimmed)
    with av.open(str(trimmed)) as container:
        container.streams.video[0].thread_type = "NONE"
        whole = {frame.pts: pixels(frame) for frame in container.decode(video=0) if not frame.is_corrupt}
    assert N_FRAMES // 2 < facts.n_frames < N_FRAMES
    for wanted in choices(facts):
        got = {facts.pts[index]: pixels(frame) for index, frame in decode_frames(trimmed, facts, wanted)}
        assert sorted(got) == sorted(facts.pts[index] for index in wanted)
        assert [pts for pts in got if got[pts] != whole.get(pts)] == []


def test_packets_other_than_the_planned_ones_are_decoded_whole(pictures, folder, monkeypatch):
    film = next(film for film in FILMS if film.name == "h264_closed.mp4")
    path = encode(folder, film, pictures)
    facts, whole = probe_clip(path), every_frame(path)
    wrong = PacketIndex(array("q", facts.packets.pts[:-3]), facts.packets.is_key[:-3], facts.packets.is_access[:-3])
    object.__setattr__(facts, "packets", wrong)
    got = dict(decode_frames(path, facts, {3, 40, 70}))
    assert {index: pixels(frame) for index, frame in got.items()} == {index: whole[index] for index in (3, 40, 70)}


# Streams as the standards allow them: what each picture refers to is known, so that a plan can be checked.


@dataclass(frozen=True)
class Picture:
    pts: int
    is_access: bool
    refers_to: tuple[int, ...]  # positions in the file


@st.composite
def streams(draw: st.DrawFn) -> list[Picture]:
    """Groups of an access picture, perhaps pictures shown before it, and chains of pictures after it."""
    stream: list[Picture] = []
    shown = 0
    for group in range(draw(st.integers(1, 5))):
        start = len(stream)
        n_leading = draw(st.integers(0, 3)) if group else 0
        stream.append(Picture(shown + n_leading, True, ()))
        for i in range(n_leading):
            refers = draw(st.lists(st.sampled_from(range(start + 1)), min_size=1, max_size=3))
            if group > 1:  # never further back than one group
                before = [i for i in range(start) if stream[i].is_access][-1]
                refers = [max(r, before) for r in refers]
            refers = [r for r in refers if r == start or not _is_leading(stream, r)] or [start]
            stream.append(Picture(shown + i, False, tuple(refers)))
        shown += n_leading + 1
        trailing: list[int] = [start]
        for _ in range(draw(st.integers(0, 6))):
            refers = draw(st.lists(st.sampled_from(trailing), min_size=1, max_size=3))
            stream.append(Picture(shown, False, tuple(refers)))
            trailing.append(len(stream) - 1)
            shown += 1
    return stream


def _is_leading(stream: list[Picture], position: int) -> bool:
    start = max(i for i in range(position + 1) if stream[i].is_access)
    return stream[position].pts < stream[start].pts


@given(streams(), st.data())
def test_everything_that_a_wanted_picture_refers_to_is_fed(stream: list[Picture], data: st.DataObject) -> None:
    wanted = data.draw(st.sets(st.sampled_from([picture.pts for picture in stream])))
    access = bytes(picture.is_access for picture in stream)
    plan = plan_feed(PacketIndex(array("q", [picture.pts for picture in stream]), access, access), wanted)
    needed = {i for i, picture in enumerate(stream) if picture.pts in wanted}
    assert all(plan[i] == Feed.WHOLE for i in needed)
    queue = list(needed)
    while queue:
        for i in stream[queue.pop()].refers_to:
            if i not in needed:
                needed.add(i)
                queue.append(i)
    assert all(plan[i] >= Feed.REFERENCE for i in needed)
    ends = [i for i in range(len(plan) - 1) if plan[i] == Feed.DROP and plan[i + 1] != Feed.DROP]
    assert all(stream[i + 1].is_access for i in ends)


def test_nothing_is_decoded_where_nothing_is_wanted():
    index = PacketIndex(array("q", [0, 2, 1, 3]), b"\1\0\0\1", b"\1\0\0\1")
    assert plan_feed(index, set()) == bytes(4)
    assert plan_feed(index, {1}) == bytes([Feed.REFERENCE, Feed.REFERENCE, Feed.WHOLE, Feed.DROP])
    assert plan_feed(index, {3}) == bytes([Feed.DROP, Feed.DROP, Feed.DROP, Feed.WHOLE])
