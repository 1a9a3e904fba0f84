"""What previews cost and how they look, against `ffmpeg -c:v libwebp` on each window, as peers make theirs.

    python benchmarks/previews.py [--rounds 5] [VIDEO...]

Every window of every video is made with each, in turn; a table of medians is printed. CPU is user and system time, of
our process with all its threads, and of the ffmpeg program. Both sides get their input ready made: we the packed
frames, ffmpeg a window that was cut from the clip beforehand. PSNR is over the RGB values of all pictures of a preview
against the same pictures uncompressed: ours against frames decoded from the clip, ffmpeg's against its own filters'
output of the cut window, so that neither the packing nor the cutting of the other side is held against anybody.
"""

import argparse
import io
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace
from numpy.typing import NDArray

from caption_assets.engines.protocol import PackedFrames
from caption_assets.settings.groups import PreviewSettings, WindowSettings
from caption_assets.video import webp
from caption_assets.video.decode import decode_frames
from caption_assets.video.pack import PackRule, PlannedWindow, pack_path, pack_windows, plan_clip, read_pack
from caption_assets.video.preview import choose_frames, make_preview
from caption_assets.video.preview_format import writable_formats
from caption_assets.video.probe import ClipFacts, probe_clip
from caption_assets.video.to_rgb import UprightScaler

Picture = NDArray[np.uint8]

CLIPS = Path(__file__).parents[1] / "clips"
RULE = PreviewSettings()
FILTERS = f"fps={RULE.target_fps:g},scale=-2:'min({RULE.target_height},ih)'"


@dataclass(frozen=True)
class Window:
    """A window with what either side makes its preview from."""

    clip: Path
    facts: ClipFacts
    plan: PlannedWindow
    frames: PackedFrames
    cut: Path


@dataclass
class Tally:
    """What one way of making previews took and gave, per round; PSNR per preview."""

    cpu_s: list[float] = field(default_factory=list)
    n_bytes: int = 0
    psnr: list[float] = field(default_factory=list)


def main() -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="*", type=Path, default=sorted(CLIPS.iterdir()))
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        windows = [window for video in arguments.videos for window in prepare(video, folder)]
        ways: dict[str, Callable[[Window], bytes]] = {"ffmpeg -c:v libwebp": by_ffmpeg}
        ways["its decoding and filters alone"] = without_encoder
        ways |= {f"{form}, level {RULE.compression_level}": ours(form) for form in writable_formats()}
        tallies = {way: Tally() for way in ways}
        for number in range(arguments.rounds):
            for way, make in ways.items():
                before = cpu_seconds()
                made = [make(window) for window in windows]
                tallies[way].cpu_s.append(cpu_seconds() - before)
                if number == 0 and make is not without_encoder:
                    tallies[way].n_bytes = sum(map(len, made))
                    truth = filtered if make is by_ffmpeg else uncompressed
                    tallies[way].psnr = [psnr(pictures(data), truth(w)) for data, w in zip(made, windows, strict=True)]
    report(tallies, len(windows), arguments.rounds)
    return 0


def prepare(video: Path, folder: Path) -> Iterator[Window]:
    """Pack every window of a video, and cut it out for ffmpeg."""
    facts = probe_clip(video)
    plans = plan_clip(facts, WindowSettings())
    named = [(f"{video.stem}-{video.suffix[1:]}-{i}", plan) for i, plan in enumerate(plans)]
    pack_windows(video, facts, named, PackRule(), folder)
    for name, plan in named:
        cut = folder / f"{name}.mp4"
        even = "crop=trunc(iw/2)*2:trunc(ih/2)*2"
        select = f"select='between(n,{plan.start_frame},{plan.end_frame})',setpts=PTS-STARTPTS,{even}"
        run_ffmpeg("-i", video, "-an", "-vf", select, "-c:v", "libx264", "-crf", "12", "-preset", "veryfast", cut)
        yield Window(video, facts, plan, read_pack(pack_path(folder, name, PackRule().pack_id)), cut)


def by_ffmpeg(window: Window) -> bytes:
    """Make the preview as peers do: level 6, quality 50, lossy."""
    target = window.cut.with_suffix(".webp")
    quality = ("-lossless", "0", "-compression_level", "6", "-q:v", str(RULE.quality), "-loop", "0")
    run_ffmpeg("-threads", "1", "-i", window.cut, "-vf", FILTERS, "-c:v", "libwebp", *quality, target)
    return target.read_bytes()


def without_encoder(window: Window) -> bytes:
    """Let ffmpeg do all but the encoding."""
    run_ffmpeg("-threads", "1", "-i", window.cut, "-vf", FILTERS, "-f", "null", "-")
    return b""


def ours(form: str) -> Callable[[Window], bytes]:
    """Return the function that makes our preview in a format, with its poster."""
    rule = PreviewSettings(preview_format=form)

    def make(window: Window) -> bytes:
        plan, facts = window.plan, window.facts
        return make_preview(
            window.frames,
            plan.start_s,
            plan.end_s,
            rule,
            source_fps=facts.fps,
            source_width=facts.display_width,
            source_height=facts.display_height,
        ).data

    return make


def uncompressed(window: Window) -> list[tuple[int, Picture]]:
    """Return the frames of the clip that our preview shows, with their times in ms, at full size of the preview."""
    plan, facts = window.plan, window.facts
    shown = choose_frames(plan.frame_times_s, plan.start_s, plan.end_s, RULE.target_fps)
    height = min(RULE.target_height, facts.display_height, window.frames.height)
    width = max(1, round(height * facts.display_width / facts.display_height))
    times = {plan.frame_indices[i]: round((plan.frame_times_s[i] - plan.start_s) * 1000) for i in shown}
    scaler = UprightScaler(facts)
    return [
        (times[index], scaler.rgb(frame, height, width))
        for index, frame in decode_frames(window.clip, facts, times.keys())
    ]


def filtered(window: Window) -> list[tuple[int, Picture]]:
    """Return the pictures of ffmpeg's own filters, as RGB."""
    target = window.cut.with_suffix(".nut")
    run_ffmpeg("-i", window.cut, "-vf", FILTERS, "-c:v", "rawvideo", "-pix_fmt", "rgb24", target)
    with av.open(str(target)) as container:
        return [(round(float(frame.time or 0) * 1000), frame.to_ndarray()) for frame in container.decode(video=0)]


def pictures(data: bytes) -> list[tuple[int, Picture]]:
    """Decode a preview of any format: (time in ms, picture) of each."""
    if data[:4] == b"RIFF":
        return list(webp_pictures(data))
    with av.open(io.BytesIO(data)) as container:
        film = max(container.streams.video, key=lambda stream: stream.frames)
        return [(round(float(frame.pts * frame.time_base) * 1000), rgb(frame)) for frame in container.decode(film)]


def webp_pictures(data: bytes) -> Iterator[tuple[int, Picture]]:
    """Put the parts of an animated WebP together, as a browser does (WebP container specification, ANMF)."""
    headers = [data[at : at + 16] for at in anmf_headers(data)] or [bytes(16)]
    canvas: Picture | None = None
    start_ms = 0
    for header, still in zip(headers, webp.stills(data), strict=True):
        decoder = av.CodecContext.create("webp", "r")
        [frame] = [*decoder.decode(av.Packet(still)), *decoder.decode(None)]
        part = rgb(frame)
        if canvas is None:
            canvas = part.copy()
        else:
            left, top = (2 * int.from_bytes(header[at : at + 3], "little") for at in (0, 3))
            below = canvas[top : top + part.shape[0], left : left + part.shape[1]]
            is_opaque = frame.format.name == "yuv420p"
            alpha = 1.0 if is_opaque else frame.reformat(format="rgba").to_ndarray()[..., 3:] / 255
            below[:] = np.round(part * alpha + below * (1 - alpha))
        yield start_ms, canvas.copy()
        start_ms += int.from_bytes(header[12:15], "little")


def anmf_headers(data: bytes) -> Iterator[int]:
    """Yield where the header of each picture of an animation starts."""
    at = 12
    while at + 8 <= len(data):
        if data[at : at + 4] == b"ANMF":
            yield at + 8
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        at += 8 + size + (size & 1)


def rgb(frame: av.VideoFrame) -> Picture:
    """Return a frame as RGB, read as BT.601 of limited range, which all previews are."""
    shown = frame.reformat(format="rgb24", src_colorspace=Colorspace.ITU601, src_color_range=ColorRange.MPEG)
    return shown.to_ndarray()


def psnr(made: list[tuple[int, Picture]], truth: list[tuple[int, Picture]]) -> float:
    """Return the PSNR of a preview in dB. Each true picture is compared with what is shown at its time."""
    squares = []
    for time_ms, true in truth:
        shown = [picture for start_ms, picture in made if start_ms <= time_ms + 1][-1]
        height, width = min(true.shape[0], shown.shape[0]), min(true.shape[1], shown.shape[1])
        if shown.shape != true.shape:  # an even width is a pixel narrower: compared at its own size
            true = resized(true, shown.shape[1], shown.shape[0])
            height, width = shown.shape[:2]
        squares.append(np.mean((shown[:height, :width].astype(float) - true[:height, :width]) ** 2))
    return float(10 * np.log10(255**2 / max(1e-9, np.mean(squares))))


def resized(picture: Picture, width: int, height: int) -> Picture:
    """Return a picture at another size."""
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
    return frame.reformat(width, height, interpolation="AREA").to_ndarray()


def run_ffmpeg(*arguments: object) -> None:
    """Run the ffmpeg program."""
    subprocess.run(["ffmpeg", "-y", "-v", "error", *map(str, arguments)], check=True, stdin=subprocess.DEVNULL)


def cpu_seconds() -> float:
    """Return CPU seconds of this process and of the programs it ran."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def report(tallies: dict[str, Tally], n_windows: int, rounds: int) -> None:
    """Print the table; ratios are of the same round."""
    [base, *_] = tallies.values()
    print(f"{n_windows} windows, medians of {rounds} rounds; ratios to the first line\n")
    print("| made by | CPU s a window | CPU | bytes a window | bytes | PSNR, dB |\n|---|---|---|---|---|---|")
    for way, tally in tallies.items():
        ratio = statistics.median(mine / theirs for mine, theirs in zip(tally.cpu_s, base.cpu_s, strict=True))
        cpu_s = statistics.median(tally.cpu_s) / n_windows
        looks = "- | - | -"
        if tally.psnr:
            size = f"{tally.n_bytes / n_windows:,.0f} | {tally.n_bytes / base.n_bytes:.2f}"
            looks = f"{size} | {statistics.mean(tally.psnr):.1f}"
        print(f"| {way} | {cpu_s:.3f} | {ratio:.2f} | {looks} |")


if __name__ == "__main__":
    sys.exit(main())
