"""Files made to harm: each is refused or read right, within time and memory, and reads nothing but itself."""

import contextlib
import ctypes
import ctypes.util
import os
import struct
import time
from pathlib import Path

import av
import numpy as np
import pytest
import simplejpeg

from caption_assets.settings.groups import ClipSettings, WindowSettings
from caption_assets.video.container import unlisted_samples
from caption_assets.video.pack import PackRule, pack_path, pack_windows, plan_clip, read_pack
from caption_assets.video.probe import UnreadableVideo, probe_clip
from caption_assets.video.workers import WorkerFailure, map_clips
from tests.video.changing import Part, make_changing_film
from tests.video.encoders import repeatable
from tests.video.films import CLIPS, make_film, number_of
from tests.video.fuzz import faults, fuzz, report
from tests.video.judging import Trial, judge, truth_of
from tests.video.mutate import MUTATIONS, make_mutants, make_sources
from tests.video.worker_functions import probe_and_weigh

FUZZ_FILES = 104
FUZZ_SEED = 20261121
CUT_FILES = 78


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    return make_sources(tmp_path_factory.mktemp("sources"), originals=False)


def test_damaged_files_have_an_answer_each_and_cut_ones_no_frame_that_is_not_theirs(sources, tmp_path):
    answers = fuzz(tmp_path, sources, FUZZ_FILES, FUZZ_SEED)
    assert len(answers) == FUZZ_FILES
    assert {mutant.kind for mutant, _ in answers} == set(MUTATIONS)
    assert faults(answers) == [], report(answers)
    # Damage is met, and it is not that everything is refused.
    outcomes = {answer.outcome for _, answer in answers}
    assert {"quarantined", "partial", "ok"} <= outcomes


def test_a_cut_file_is_quarantined_or_says_truncated_and_hands_out_every_frame_it_lists(sources, tmp_path):
    declaring = [source for source in sources if source.suffix not in (".ts", ".mpg")]
    answers = fuzz(tmp_path, declaring, CUT_FILES, FUZZ_SEED, ("cut",))
    assert faults(answers) == []
    read = [(mutant.path.name, answer) for mutant, answer in answers if answer.outcome != "quarantined"]
    assert len(read) > CUT_FILES / 4
    for name, answer in read:
        assert answer.truncated, name
        assert answer.n_clean == answer.n_listed, name


def test_the_judge_knows_a_frame_of_another_file(sources, tmp_path):
    """The checks above could not fail if this did not hold."""
    one, other = (truth_of(source) for source in sources[:2])
    [(mutant, answer)] = fuzz(tmp_path, sources[:1], 1, 0, ("repeat",))
    assert not isinstance(answer, WorkerFailure)
    swapped = judge(Trial(mutant, {mutant.source: other}, tmp_path / "packs"))
    assert swapped.n_foreign == swapped.n_clean or not swapped.n_clean
    assert set(one.prints).isdisjoint(other.prints)


def test_the_same_seed_makes_the_same_damage(sources, tmp_path):
    one, two = (list(make_mutants(sources[:3], tmp_path / name, 16, 7)) for name in ("a", "b"))
    assert [m.path.read_bytes() for m in one] == [m.path.read_bytes() for m in two]
    other = list(make_mutants(sources[:3], tmp_path / "c", 16, 8))
    assert [m.path.read_bytes() for m in one] != [m.path.read_bytes() for m in other]
    for mutant in one:
        before, after = mutant.source.read_bytes(), mutant.path.read_bytes()
        assert before[: mutant.first_harm] == after[: mutant.first_harm]


# Decompression bombs: (name, how it is made, what is said)

MEMORY_MB = 300
"""Of a worker that meets a bomb. It has 60 before it reads anything."""


def big_picture(path, codec="libx264", **how):
    """A picture of 96 million pixels in a file under 500 kB."""
    width, height = 12_000, 8_000
    with av.open(str(path), "w", **how) as container:
        options = {"preset": "ultrafast", "rc-lookahead": "0"} if codec == "libx264" else {"deadline": "realtime"}
        stream = container.add_stream(codec, rate=25, options=repeatable(codec, options))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.thread_count = 1
        black = np.zeros((height * 3 // 2, width), np.uint8)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(black, format=stream.pix_fmt)))
        container.mux(stream.encode(None))
    assert path.stat().st_size < 2_000_000
    return path


def patched(path, kind, offset, value):
    """A small MP4 with one 32-bit number of a box overwritten, `offset` bytes after the box's type."""
    data = bytearray(make_film(path, 40).read_bytes())
    at = data.index(kind) + 4 + offset
    data[at : at + 4] = value.to_bytes(4, "big")
    path.write_bytes(data)
    return path


def promised_samples(path):
    """2.7 kB that promise 50 million samples of one byte each."""
    patched(path, b"stsz", 4, 1)
    data = bytearray(path.read_bytes())
    for kind, offset in ((b"stsz", 8), (b"stsc", 12), (b"stts", 8)):
        at = data.index(kind) + 4 + offset
        data[at : at + 4] = (50_000_000).to_bytes(4, "big")
    path.write_bytes(data)
    return path


def box(kind, *parts):
    body = b"".join(parts)
    return struct.pack(">I", 8 + len(body)) + kind + body


def many_edits(path):
    data = make_film(path, 40).read_bytes()
    start = data.index(b"edts") - 4
    end = start + int.from_bytes(data[start : start + 4], "big")
    count = 5_000
    edits = box(b"edts", box(b"elst", struct.pack(">II", 0, count), struct.pack(">IiI", 40, 0, 1 << 16) * count))
    grown = bytearray(data[:start] + edits + data[end:])
    for kind in (b"moov", b"trak"):
        at = grown.index(kind) - 4
        size = int.from_bytes(grown[at : at + 4], "big") + len(edits) - (end - start)
        grown[at : at + 4] = size.to_bytes(4, "big")
    path.write_bytes(grown)
    return path


def nested(path, outer=b""):
    tracks = b""
    for _ in range(20_000):
        tracks = box(b"trak", tracks)
    path.write_bytes(box(b"ftyp", b"isom\0\0\2\0isom") + box(b"moov", tracks))
    return path


def matroska_with(path, elements_before=b"", clusters=b""):
    data = make_film(path, 40, codec="libvpx", options={}).read_bytes()
    segment = data.index(b"\x18\x53\x80\x67")
    cluster = data.index(b"\x1f\x43\xb6\x75")
    endless = b"\x18\x53\x80\x67\x01" + b"\xff" * 7
    kept = clusters or data[cluster:]
    path.write_bytes(data[:segment] + endless + elements_before + data[segment + 12 : cluster] + kept)
    return path


def element(id_, body):
    return id_ + b"\x01" + len(body).to_bytes(7, "big") + body


def nested_tags(path):
    tags = b""
    for _ in range(30_000):
        tags = element(b"\x67\xc8", tags)
    return matroska_with(path, element(b"\x12\x54\xc3\x67", element(b"\x73\x73", tags)))


def blocks(path, data):
    block = b"\xa3" + bytes([0x80 | 4 + len(data)]) + b"\x81\x00\x00\x80" + data
    return matroska_with(path, clusters=element(b"\x1f\x43\xb6\x75", b"\xe7\x81\x00" + block * 1_000) * 300)


BOMBS = {
    "h264.mp4": (big_picture, "12000x8000, 96,000,000 pixels, allowed: up to 67,108,864"),
    "h264.ts": (lambda path: big_picture(path, format="mpegts"), "96,000,000 pixels"),
    "h264.mkv": (big_picture, "96,000,000 pixels"),
    "vp8.webm": (lambda path: big_picture(path, "libvpx"), "96,000,000 pixels"),
    "jpeg.avi": (lambda path: big_picture(path, "mjpeg"), "96,000,000 pixels|no frame of the video can be decoded"),
    "samples.mp4": (promised_samples, "header promises 50,000,000 samples, allowed: up to 4,000,000"),
    "times.mp4": (lambda path: patched(path, b"stts", 4, 0x7FFFFFFF), "not a video container"),
    "time count.mp4": (lambda path: patched(path, b"stts", 8, 1_000_000_000), None),
    "sizes.mp4": (lambda path: patched(path, b"stsz", 8, 1_000_000_000), "not a video container"),
    "chunks.mp4": (lambda path: patched(path, b"stco", 4, 0x7FFFFFFF), None),
    "chunk.mp4": (lambda path: patched(path, b"stsc", 12, 1_000_000_000), None),
    "orders.mp4": (lambda path: patched(path, b"ctts", 4, 0x7FFFFFFF), "not a video container"),
    "sides.mp4": (lambda path: patched(path, b"avc1", 24, 0xFFFFFFFF), None),
    "edits.mp4": (many_edits, "no frame of the video can be decoded"),
    "nested.mp4": (nested, "no video stream"),
    "nested.mkv": (nested_tags, None),
    "empty blocks.webm": (lambda path: blocks(path, b""), "no frame of the video can be decoded"),
    "tiny blocks.webm": (lambda path: blocks(path, b"\x00"), "over 100,000 packets"),
}
"""Of a file without a reason, the frames that are really in it are read."""


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_or_read_right_in_little_memory_and_time(tmp_path, name):
    make, reason = BOMBS[name]
    bomb = make(tmp_path / name)
    limits = ClipSettings(max_frames=50_000) if "tiny" in name else ClipSettings()
    start = time.monotonic()
    [(_, answer)] = map_clips(probe_and_weigh, [(bomb, limits)], workers=1, timeout_s=60)
    assert time.monotonic() - start < 20
    assert not isinstance(answer, WorkerFailure), answer
    said, n_frames, peak_mb = answer
    assert peak_mb < MEMORY_MB
    if reason is None:
        assert (said, n_frames) == (None, 40)
    else:
        assert any(part in said for part in reason.split("|")), said


def test_uncompressed_sound_counts_no_samples_and_a_fragmented_film_few(tmp_path):
    with av.open(str(tmp_path / "sound.mov"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=48_000, layout="mono")
        frame = av.AudioFrame(format="s16", layout="mono", samples=48_000)
        frame.planes[0].update(bytes(96_000))
        frame.sample_rate, frame.pts = 48_000, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert unlisted_samples(tmp_path / "sound.mov") == 0
    film = make_film(tmp_path / "parts.mp4", container_options={"movflags": "frag_keyframe+empty_moov"})
    assert unlisted_samples(film) < 100
    assert unlisted_samples(promised_samples(tmp_path / "bomb.mp4")) == 50_000_000


# Streams that change on the way

CHANGING = [
    ("libx264", "a.ts", "mpegts"),
    ("libx264", "a.mkv", None),
    ("libx265", "a.ts", "mpegts"),
    ("libvpx", "a.webm", None),
    ("libvpx-vp9", "a.mp4", None),
    ("mpeg2video", "a.mpg", "vob"),
    ("mjpeg", "a.avi", None),
]


@pytest.mark.parametrize(("codec", "name", "container_format"), CHANGING)
@pytest.mark.parametrize(
    ("second", "error"),
    [
        (Part(24, 640, 384), None),
        (Part(24, 320, 320), "changes its shape from 320x192 to 320x320 at 0.96 s"),
        (Part(24, 1280, 800), "sampled frames do not decode, the first at 0.96 s"),
        (Part(24, pix_fmt="yuv444p"), None),
        (Part(24, pix_fmt="yuv420p10le"), None),
    ],
    ids=["larger", "other shape", "over the limit", "other chroma", "deeper"],
)
def test_a_stream_that_changes_gives_true_pictures_or_says_why_not(
    tmp_path, codec, name, container_format, second, error
):
    options = {"libx264": {"bf": "0"}, "libx265": {"x265-params": "log-level=none:bframes=0:pools=1"}}.get(codec, {})
    pix_fmt = second.pix_fmt.replace("yuv", "yuvj") if codec == "mjpeg" else second.pix_fmt
    first = Part(24, pix_fmt="yuvj420p" if codec == "mjpeg" else "yuv420p", options=options)
    try:
        parts = [first, Part(24, second.width, second.height, pix_fmt, options)]
        film = make_changing_film(tmp_path / name, codec, parts, container_format)
    except (av.FFmpegError, ValueError):
        pytest.skip(f"{codec} has no {pix_fmt}")
    limits = ClipSettings(max_pixels=1_000_000)
    facts = probe_clip(film, limits)
    assert facts.n_frames == 48
    rule = PackRule(28, 90)
    windows = [
        (f"w{i}", window)
        for i, window in enumerate(
            plan_clip(facts, WindowSettings(window_size=24, remainder_threshold=12, sampling_fps=12.0))
        )
    ]
    before, after = pack_windows(film, facts, windows, rule, tmp_path, limits)
    for (window_id, window), outcome in zip(windows, (before, after), strict=True):
        if outcome.status == "ok":
            jpegs = read_pack(pack_path(tmp_path, window_id, rule.pack_id)).jpegs
            assert [number_of(simplejpeg.decode_jpeg(jpeg)) for jpeg in jpegs] == list(window.frame_indices)
    if codec == "mpeg2video":  # the library's decoder drops the last picture before the size changes
        assert before.error is None or before.error.startswith("1 of 12 sampled frames do not decode")
    else:
        assert before.status == "ok"
    if error is None:
        assert after.status == "ok"
    else:
        assert error in after.error


# Files that name other files

IN_ACCESS, IN_OPEN = 0x1, 0x20


class Watch:
    """Whether a file is opened or read by anybody, as the kernel reports it (inotify)."""

    def __init__(self, path: Path):
        self._c = ctypes.CDLL(ctypes.util.find_library("c"), use_errno=True)
        self._fd = self._c.inotify_init1(os.O_NONBLOCK)
        assert self._c.inotify_add_watch(self._fd, os.fsencode(path), IN_ACCESS | IN_OPEN) >= 0

    def events(self) -> int:
        try:
            return len(os.read(self._fd, 1 << 16)) // struct.calcsize("iIII")
        except BlockingIOError:
            return 0

    def __del__(self):
        os.close(self._fd)


def mp3_with_cover(path):
    with av.open(str(path), "w", format="mp3") as container:
        stream = container.add_stream("libmp3lame", rate=44_100)
        cover = container.add_stream("mjpeg", rate=1)
        cover.width = cover.height = 64
        cover.pix_fmt = "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        container.mux(cover.encode(av.VideoFrame(64, 64, "yuvj420p")))
        container.mux(cover.encode(None))
        for start in range(0, 44_100, 1152):
            frame = av.AudioFrame(format="fltp", layout="mono", samples=1152)
            frame.planes[0].update(bytes(4 * 1152))
            frame.sample_rate, frame.pts = 44_100, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def picture(path, codec, container_format, n_frames):
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "rgb8"
    make_film(path, n_frames, codec=codec, pix_fmt=pix_fmt, options={}, container_format=container_format)


DISGUISED = {
    "jpeg": lambda path, _: picture(path, "mjpeg", "image2pipe", 1),
    "gif": lambda path, _: picture(path, "gif", "gif", 5),
    "mp3 with cover": lambda path, _: mp3_with_cover(path),
    "ffconcat": lambda path, other: path.write_text(f"ffconcat version 1.0\nfile {other.name}\n"),
    "ffconcat, absolute": lambda path, other: path.write_text(f"ffconcat version 1.0\nfile 'file:{other}'\n"),
    "playlist": lambda path, other: path.write_text(f"#EXTM3U\n#EXTINF:10,\n{other}\n#EXT-X-ENDLIST\n"),
    "session": lambda path, other: path.write_text(f"v=0\nm=video 1 RTP/AVP 96\na=control:file://{other}\n"),
}


@pytest.mark.parametrize("kind", DISGUISED)
def test_what_is_only_named_mp4_is_refused_and_reads_no_other_file(tmp_path, kind):
    other = tmp_path / "other.mp4"
    other.write_bytes((CLIPS / "ocean.mp4").read_bytes())
    disguised = tmp_path / "film.mp4"
    DISGUISED[kind](disguised, other)
    watch = Watch(other)
    with pytest.raises(UnreadableVideo, match="not a video container"):
        probe_clip(disguised)
    assert watch.events() == 0


def test_an_ffconcat_does_read_the_other_file_where_it_is_opened_by_its_path(tmp_path):
    """So the test above sees what it is there to see."""
    other = tmp_path / "other.mp4"
    other.write_bytes((CLIPS / "ocean.mp4").read_bytes())
    concat = tmp_path / "film.mp4"
    DISGUISED["ffconcat"](concat, other)
    watch = Watch(other)
    with av.open(str(concat)) as container:
        assert next(container.decode(video=0)).width == 1280
    assert watch.events() > 0


def test_a_named_pipe_is_no_file_and_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(UnreadableVideo, match="not a regular file"):
        probe_clip(tmp_path / "pipe.mp4")


def test_an_external_track_of_a_mov_is_not_read(tmp_path):
    """A data reference that names another file (ISO/IEC 14496-12, 8.7.2) instead of this one."""
    other = make_film(tmp_path / "other.mov", 20)
    data = make_film(tmp_path / "film.mov", 20).read_bytes()
    start = data.index(b"dinf") - 4
    end = start + int.from_bytes(data[start : start + 4], "big")
    name = os.fsencode(other)
    reference = box(b"url ", struct.pack(">I", 0), b"file:" + name + b"\0")
    dinf = box(b"dinf", box(b"dref", struct.pack(">II", 0, 1), reference))
    grown = bytearray(data[:start] + dinf + data[end:])
    for kind in (b"moov", b"trak", b"mdia", b"minf"):
        at = grown.index(kind) - 4
        grown[at : at + 4] = (int.from_bytes(grown[at : at + 4], "big") + len(dinf) - (end - start)).to_bytes(4, "big")
    (tmp_path / "film.mov").write_bytes(grown)
    watch = Watch(other)
    with contextlib.suppress(UnreadableVideo):
        probe_clip(tmp_path / "film.mov")
    assert watch.events() == 0
