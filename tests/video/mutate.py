"""Damaged video files, the same for the same seed: what is damaged, and how."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av

from tests.video.encoders import repeatable, start_encoding
from tests.video.films import CLIPS

MUTATIONS = ("flip", "burst", "cut", "splice", "drop", "repeat", "head", "zeros")

SMALL_FRAMES = 48
SMALL_SIZE = (256, 144)

REMUXED = [
    # clip, name of the copy, container format, its options
    ("ocean.mp4", "front.mp4", "mp4", {"movflags": "faststart"}),
    ("bigbuckbunny.mp4", "fragments.mp4", "mp4", {"movflags": "frag_keyframe+empty_moov", "frag_duration": "200000"}),
    ("ocean.mp4", "copy.mov", "mov", {}),
    ("ocean.mp4", "copy.mkv", "matroska", {}),
    ("bigbuckbunny.mp4", "copy.ts", "mpegts", {}),
    ("cityCC0.mpg", "copy.ts", "mpegts", {}),
    ("cityCC0.mpg", "copy.mkv", "matroska", {}),
    ("ocean.webm", "copy.webm", "webm", {}),
]
RECODED = [
    # clip, name of the copy, container format, codec, its options
    ("ocean.mp4", "h264.mp4", "mp4", "libx264", {"g": "12", "bf": "2"}),
    ("cityCC0.mpg", "h264.mov", "mov", "libx264", {"g": "12", "x264-params": "open-gop=1"}),
    ("bigbuckbunny.mp4", "h264.avi", "avi", "libx264", {"g": "12", "bf": "2"}),
    ("bigbuckbunny.mp4", "hevc.mp4", "mp4", "libx265", {"x265-params": "keyint=12:log-level=none:pools=1"}),
    ("ocean.webm", "hevc.mkv", "matroska", "libx265", {"x265-params": "keyint=12:log-level=none:pools=1"}),
    ("ocean.mp4", "hevc.ts", "mpegts", "libx265", {"x265-params": "keyint=12:log-level=none:pools=1"}),
    ("cityCC0.mpg", "vp8.webm", "webm", "libvpx", {"deadline": "realtime", "cpu-used": "8", "g": "12"}),
    ("ocean.mp4", "vp9.webm", "webm", "libvpx-vp9", {"deadline": "realtime", "cpu-used": "8", "g": "12"}),
    ("bigbuckbunny.mp4", "vp9.mp4", "mp4", "libvpx-vp9", {"deadline": "realtime", "cpu-used": "8", "g": "12"}),
    ("ocean.webm", "av1.mp4", "mp4", "libsvtav1", {"preset": "12", "g": "12", "svtav1-params": "lp=1"}),
    ("cityCC0.mpg", "av1.webm", "webm", "libsvtav1", {"preset": "12", "g": "12", "svtav1-params": "lp=1"}),
    ("ocean.webm", "xvid.avi", "avi", "mpeg4", {"g": "12", "bf": "2"}),
    ("ocean.mp4", "mpeg4.mp4", "mp4", "mpeg4", {"g": "12"}),
    ("bigbuckbunny.mp4", "dvd.mpg", "vob", "mpeg2video", {"g": "12", "bf": "2"}),
    ("ocean.mp4", "tv.ts", "mpegts", "mpeg2video", {"g": "12", "bf": "2"}),
    ("ocean.webm", "vcd.mpg", "mpeg", "mpeg1video", {"g": "12", "bf": "2"}),
    ("bigbuckbunny.mp4", "motion.avi", "avi", "mjpeg", {}),
    ("ocean.mp4", "motion.mov", "mov", "mjpeg", {}),
]


@dataclass(frozen=True)
class Mutant:
    """A damaged copy of `source`. kind: one of MUTATIONS. first_harm: bytes from the start that are untouched."""

    path: Path
    source: Path
    kind: str
    first_harm: int


def make_sources(folder: Path, *, originals: bool = True, remuxed: bool = True) -> list[Path]:
    """Return the demo clips and copies of their beginnings in every container and codec that is read."""
    folder.mkdir(parents=True, exist_ok=True)
    made = sorted(CLIPS.iterdir()) if originals else []
    if remuxed:
        made += [remux_start(CLIPS / clip, folder / f"{clip}.{name}", *how) for clip, name, *how in REMUXED]
    made += [recode_start(CLIPS / clip, folder / f"{clip}.{name}", *how) for clip, name, *how in RECODED]
    return made


def remux_start(clip: Path, target: Path, container_format: str, options: dict[str, str]) -> Path:
    """Copy the first packets of a clip into another container."""
    with av.open(str(clip)) as reader, av.open(str(target), "w", format=container_format, options=options) as writer:
        stream = reader.streams.video[0]
        copy = writer.add_stream_from_template(stream)
        n_copied = 0
        for packet in reader.demux(stream):
            if packet.size and packet.dts is not None:
                packet.stream = copy
                writer.mux(packet)
                n_copied += 1
                if n_copied == SMALL_FRAMES:
                    break
    return target


def recode_start(clip: Path, target: Path, container_format: str, codec: str, options: dict[str, str]) -> Path:
    """Encode the first frames of a clip, small, in another codec."""
    width, height = SMALL_SIZE
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    with av.open(str(clip)) as reader, av.open(str(target), "w", format=container_format) as writer:
        stream = writer.add_stream(codec, rate=25, options=repeatable(codec, options))
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        stream.codec_context.thread_count = 1
        start_encoding(writer)
        for number, frame in enumerate(reader.decode(video=0)):
            if number == SMALL_FRAMES:
                break
            small = frame.reformat(width, height, pix_fmt)
            small.pts, small.time_base = number, Fraction(1, 25)
            small.pict_type = 0
            writer.mux(stream.encode(small))
        writer.mux(stream.encode(None))
    return target


def make_mutants(
    sources: Sequence[Path], folder: Path, n_files: int, seed: int, kinds: Sequence[str] = MUTATIONS
) -> Iterator[Mutant]:
    """Write `n_files` damaged files below `folder`, every source and every kind in turn."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(n_files):
        source = sources[number % len(sources)]
        kind = kinds[(number // len(sources) + number) % len(kinds)]
        chance = random.Random(f"{seed}/{number}")
        data, first_harm = mutate(source.read_bytes(), kind, chance, sources)
        suffix = ".mpg" if source.suffix in (".vob", ".mpeg") else source.suffix
        path = folder / f"{number:04d}-{kind}-{source.name.replace('.', '-')}{suffix}"
        path.write_bytes(data)
        yield Mutant(path, source, kind, first_harm)


def mutate(data: bytes, kind: str, chance: random.Random, sources: Sequence[Path]) -> tuple[bytes, int]:
    """Return damaged bytes, and how many of the first are as they were."""
    changed = bytearray(data)
    size = len(data)
    at = chance.randrange(1, size)
    length = min(chance.choice((1, 16, 500, 5_000)), size - at)
    if kind == "flip":
        places = sorted(chance.randrange(size) for _ in range(chance.choice((1, 3, 10, 100))))
        for place in places:
            changed[place] ^= 1 << chance.randrange(8)
        return bytes(changed), places[0]
    if kind == "head":  # where containers keep their structure
        places = sorted(chance.randrange(min(size, 3_000)) for _ in range(chance.choice((1, 2, 4))))
        for place in places:
            changed[place] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
        return bytes(changed), places[0]
    if kind == "burst":
        changed[at : at + length] = chance.randbytes(length)
    elif kind == "zeros":
        changed[at : at + length] = bytes(length)
    elif kind == "drop":
        del changed[at : at + length]
    elif kind == "repeat":
        changed[at:at] = data[max(0, at - length) : at]
    elif kind == "cut":
        del changed[at:]
    elif kind == "splice":
        other = chance.choice(sources).read_bytes()
        changed[at:] = other[chance.randrange(len(other)) :]
    else:
        raise ValueError(f"kind is {kind!r}, allowed: {', '.join(MUTATIONS)}")
    return bytes(changed), at
