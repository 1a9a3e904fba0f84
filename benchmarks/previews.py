"""What a preview costs, how large it is and how it looks, against `ffmpeg -c:v libwebp` run on each window.

    python -m benchmarks.previews [--rounds 3] [VIDEO...]

Both sides get their input ready: we the packed frames, ffmpeg a file of the window. CPU is user and system time, of
this process and of the ffmpeg program; the ways take turns, and medians are shown. PSNR is over the RGB values of all
pictures against the same pictures uncompressed: ours against frames of the clip, ffmpeg's against the output of its own
filters, so that neither side pays for the packing or the cutting of the other.
"""

import argparse
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace
from numpy.typing import NDArray

from benchmarks.video import CLIPS, cpu_seconds, ffmpeg, say, table
from caption_assets.settings.groups import PreviewSettings, WindowSettings
from caption_assets.video import webp
from caption_assets.video.decode import decode_frames
from caption_assets.video.pack import PackRule, PlannedWindow, pack_path, pack_windows, plan_clip, read_pack
from caption_assets.video.packed_frames import PackedFrames
from caption_assets.video.previews import Preview, choose_frames, make_preview
from caption_assets.video.probe import ClipFacts, probe_clip
from caption_assets.video.to_rgb import UprightScaler

Picture = NDArray[np.uint8]
Shown = list[tuple[int, Picture]]
"""Pictures with the millisecond from which each is shown."""

RULE = PreviewSettings()
FILTERS = f"fps={RULE.target_fps:g},scale=-2:'min({RULE.target_height},ih)'"


@dataclass(frozen=True)
class Window:
    """A window with what each side makes its preview from: packed frames, and a file cut from the clip."""

    clip: Path
    facts: ClipFacts
    plan: PlannedWindow
    frames: PackedFrames
    cut: Path


@dataclass(frozen=True)
class Way:
    """A way to make previews. truth: the pictures that its previews should show; None where it makes no file."""

    make: Callable[[Window], bytes]
    truth: Callable[[Window], Shown] | None
    cpu_s: list[float] = field(default_factory=list)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="*", type=Path, default=sorted(CLIPS.iterdir()))
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    ways = {
        "ffmpeg -c:v libwebp": Way(by_ffmpeg, filtered),
        "its decoding and filters alone": Way(without_encoder, None),
        "the platform": Way(lambda window: by_us(window).data, uncompressed),
    }
    with tempfile.TemporaryDirectory() as folder:
        windows = [window for video in arguments.videos for window in prepare(video, Path(folder))]
        files: dict[str, list[bytes]] = {}
        for number in range(1, arguments.rounds + 1):
            for name, way in ways.items():
                say(f"round {number} of {arguments.rounds}: {len(windows)} previews by {name}")
                before = cpu_seconds()
                files[name] = [way.make(window) for window in windows]
                way.cpu_s.append(cpu_seconds() - before)
        say("comparing the previews with uncompressed pictures")
        looks = {name: quality(files[name], windows, way.truth) for name, way in ways.items() if way.truth is not None}
    print(f"{len(windows)} windows, medians of {arguments.rounds} rounds\n")
    table(
        ("made by", "CPU s a window", "bytes a window", "PSNR, dB"),
        [
            (
                name,
                f"{statistics.median(way.cpu_s) / len(windows):.3f}",
                f"{sum(map(len, files[name])) / len(windows):,.0f}" if name in looks else "-",
                f"{looks[name]:.1f}" if name in looks else "-",
            )
            for name, way in ways.items()
        ],
    )


def prepare(video: Path, folder: Path) -> Iterator[Window]:
    """Pack every window of a video, and cut each into a file for ffmpeg."""
    say(f"packing and cutting the windows of {video.name}")
    facts = probe_clip(video)
    named = [
        (f"{video.stem}-{video.suffix[1:]}-{i}", plan) for i, plan in enumerate(plan_clip(facts, WindowSettings()))
    ]
    pack_windows(video, facts, named, PackRule(), folder)
    for name, plan in named:
        cut = folder / f"{name}.mp4"
        select = f"select='between(n,{plan.start_frame},{plan.end_frame})',setpts=PTS-STARTPTS"
        even = "crop=trunc(iw/2)*2:trunc(ih/2)*2"
        near_lossless = ("-c:v", "libx264", "-crf", "12", "-preset", "veryfast")
        ffmpeg("-i", video, "-an", "-vf", f"{select},{even}", *near_lossless, cut)
        yield Window(video, facts, plan, read_pack(pack_path(folder, name, PackRule().pack_id)), cut)


def by_ffmpeg(window: Window) -> bytes:
    """Make the preview as peers do: level 6, quality 50, lossy."""
    target = window.cut.with_suffix(".webp")
    quality = ("-lossless", "0", "-compression_level", "6", "-q:v", RULE.quality, "-loop", "0")
    ffmpeg("-threads", "1", "-i", window.cut, "-vf", FILTERS, "-c:v", "libwebp", *quality, target)
    return target.read_bytes()


def without_encoder(window: Window) -> bytes:
    """Let ffmpeg do all but the encoding."""
    ffmpeg("-threads", "1", "-i", window.cut, "-vf", FILTERS, "-f", "null", "-")
    return b""


def by_us(window: Window) -> Preview:
    """Make our preview, with its poster."""
    plan, facts = window.plan, window.facts
    size = {"source_width": facts.display_width, "source_height": facts.display_height}
    return make_preview(window.frames, plan.start_s, plan.end_s, RULE, source_fps=facts.fps, **size)


def uncompressed(window: Window) -> Shown:
    """Return the frames of the clip that our preview shows, at its size."""
    plan, facts, preview = window.plan, window.facts, by_us(window)
    shown = choose_frames(plan.frame_times_s, plan.start_s, plan.end_s, RULE.target_fps)
    times = {plan.frame_indices[i]: round((plan.frame_times_s[i] - plan.start_s) * 1000) for i in shown}
    scaler = UprightScaler(facts)
    return [
        (times[index], scaler.rgb(frame, preview.height, preview.width))
        for index, frame in decode_frames(window.clip, facts, times.keys())
    ]


def filtered(window: Window) -> Shown:
    """Return the pictures that ffmpeg's own filters give, as RGB."""
    target = window.cut.with_suffix(".nut")
    ffmpeg("-i", window.cut, "-vf", FILTERS, "-c:v", "rawvideo", "-pix_fmt", "rgb24", target)
    with av.open(str(target)) as container:
        return [(round(float(frame.time or 0) * 1000), frame.to_ndarray()) for frame in container.decode(video=0)]


def pictures(data: bytes) -> Shown:
    """Put the parts of an animated WebP together, as a browser does (WebP container specification, ANMF)."""
    headers = [data[start : start + 16] for kind, start, _ in webp.chunks(data) if kind == b"ANMF"] or [bytes(16)]
    shown: Shown = []
    start_ms = 0
    for header, still in zip(headers, webp.stills(data), strict=True):
        decoder = av.CodecContext.create("webp", "r")
        [frame] = [*decoder.decode(av.Packet(still)), *decoder.decode(None)]
        part = frame.reformat(format="rgb24", src_colorspace=Colorspace.ITU601, src_color_range=ColorRange.MPEG)
        canvas = shown[-1][1].copy() if shown else part.to_ndarray()
        left, top = (2 * int.from_bytes(header[at : at + 3], "little") for at in (0, 3))
        below = canvas[top : top + part.height, left : left + part.width]
        is_opaque = frame.format.name == "yuv420p"
        alpha = 1.0 if is_opaque else frame.reformat(format="rgba").to_ndarray()[..., 3:] / 255
        below[:] = np.round(part.to_ndarray() * alpha + below * (1 - alpha))
        shown.append((start_ms, canvas))
        start_ms += int.from_bytes(header[12:15], "little")
    return shown


def quality(files: Sequence[bytes], windows: Sequence[Window], truth: Callable[[Window], Shown]) -> float:
    """Return the mean PSNR of previews in dB. truth: returns the pictures that the preview of a window should show."""
    return statistics.mean(psnr(pictures(data), truth(window)) for data, window in zip(files, windows, strict=True))


def psnr(made: Shown, truth: Shown) -> float:
    """Return the PSNR of a preview in dB. Each true picture is compared with what is shown at its time."""
    squares = []
    for time_ms, true in truth:
        shown = [picture for start_ms, picture in made if start_ms <= time_ms + 1][-1]
        squares.append(np.mean((shown.astype(float) - true) ** 2))
    return float(10 * np.log10(255**2 / max(1e-9, np.mean(squares))))


if __name__ == "__main__":
    main()
