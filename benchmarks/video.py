"""How fast windows are cut, against the decoder alone and against the way of the peers. Prints Markdown tables.

    python -m benchmarks.video [PART...] [--all] [--seconds 40] [--runs 5]

- speed: windows, with and without previews, against decoding every frame.
- peers: the same against a decode for each window and the ffmpeg program for each file and preview.
- cores: two workers against one.
- memory: peak memory of long films and of many clips. The films take minutes to encode.

The first two parts run by default, which takes about three minutes on two cores; `--all` measures all films.
Films are made once from the clips in `clips/`. CPU is user and system time with that of children, rate is by the clock;
the runs to compare take turns, and what is shown is the median of the runs and the median of the ratios of each turn.
What is going on is said on standard error.
"""

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import av

from caption_assets import ids
from caption_assets.ids import RecipeId
from caption_assets.settings.groups import ClipSettings, PreviewSettings, WindowSettings
from caption_assets.video.decode import decode_frames
from caption_assets.video.pack import PackRule, pack_path, plan_clip, read_pack
from caption_assets.video.previews import make_preview
from caption_assets.video.probe import ClipFacts, probe_clip
from caption_assets.video.to_rgb import UprightScaler
from caption_assets.video.window_job import CutJob, CutWindow, FileClip, cut_clip
from caption_assets.video.workers import WorkerFailure, map_clips

CLIPS = Path(__file__).parents[1] / "clips"
PREVIEW_HEIGHT = 240
DEFAULT_PARTS = ("speed", "peers")
STARTED = time.perf_counter()


@dataclass(frozen=True)
class Film:
    """A film made from a clip in `clips/` that is played again and again."""

    name: str
    clip: str
    size: tuple[int, int]
    encode: tuple[str, ...]


@dataclass(frozen=True)
class Options:
    """What is measured: `runs` turns over films of so many `seconds`, which are kept in `folder`."""

    folder: Path
    runs: int
    seconds: int
    all_films: bool


X264 = ("-c:v", "libx264", "-preset", "medium", "-crf", "23")
FILMS = (
    Film("h264_720p.mp4", "bigbuckbunny.mp4", (1280, 720), X264),
    Film("h264_1080p.mp4", "bigbuckbunny.mp4", (1920, 1080), X264),
    Film("mpeg2_480p.mpg", "bigbuckbunny.mp4", (854, 480), ("-c:v", "mpeg2video", "-b:v", "3M", "-bf", "2")),
    Film("h264_720p_water.mp4", "ocean.mp4", (1280, 720), X264),
    Film("h264_1080p_water.mp4", "ocean.mp4", (1920, 1080), X264),
    Film("h264_720p_no_b.mp4", "bigbuckbunny.mp4", (1280, 720), (*X264, "-bf", "0")),
    Film("hevc_720p.mp4", "bigbuckbunny.mp4", (1280, 720), ("-c:v", "libx265", "-preset", "fast")),
    Film("vp8_480p.webm", "bigbuckbunny.mp4", (854, 480), ("-c:v", "libvpx", "-b:v", "1M", "-cpu-used", "5")),
)
FEW = 3
"""Films that are measured without `--all`, the first ones."""

FAST_X264 = ("-c:v", "libx264", "-preset", "ultrafast", "-crf", "28")
LONG_FILMS = {
    Film("long_1080p.mp4", "ocean.mp4", (1920, 1080), FAST_X264): 600,
    Film("long_2160p.mp4", "ocean.mp4", (3840, 2160), FAST_X264): 60,
}
"""Films for the part `memory`, and the seconds of each."""


def main() -> None:
    """Run the parts that are asked for."""
    parts = {"speed": speed, "peers": peers, "cores": cores, "memory": memory}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"{', '.join(parts)}; by default {' and '.join(DEFAULT_PARTS)}"
    )
    parser.add_argument("--all", action="store_true", help=f"all {len(FILMS)} films, not just the first {FEW}")
    parser.add_argument("--seconds", type=int, default=20, help="length of a film")
    parser.add_argument("--runs", type=int, default=3, help="turns that count, after one to warm up")
    parser.add_argument("--films", type=Path, default=Path(tempfile.gettempdir()) / "caption_assets_bench")
    asked = parser.parse_args()
    if unknown := set(asked.parts) - parts.keys():
        parser.error(f"no such part: {', '.join(sorted(unknown))}; allowed: {', '.join(parts)}")
    if shutil.which("ffmpeg") is None:
        sys.exit("bench-video compares with the ffmpeg program: install it (apt-get install ffmpeg)")
    asked.films.mkdir(parents=True, exist_ok=True)
    options = Options(asked.films, asked.runs, asked.seconds, asked.all)
    print(
        f"{os.cpu_count()} cores, PyAV {av.__version__}, {_ffmpeg_version()}, films of {options.seconds} s, "
        f"{options.runs} runs\n"
    )
    for part in asked.parts or DEFAULT_PARTS:
        parts[part](options)


def speed(options: Options) -> None:
    """Cutting windows against decoding every frame."""
    rows = []
    for film in FILMS if options.all_films else FILMS[:FEW]:
        path = make(options.folder, film, options.seconds)
        facts = probe_clip(path)
        times = in_turn(
            {
                "program": lambda path=path: ffmpeg("-threads", "1", "-i", path, "-map", "0:v:0", "-f", "null", "-"),
                "every frame": lambda path=path: decode_every_frame(path),
                "floor": lambda path=path: decode_wanted(path),
                "windows": lambda path=path: cut(path),
                "with previews": lambda path=path, facts=facts: cut(path, facts),
            },
            film.name,
            options.runs,
        )
        ways = ("program", "floor", "windows", "with previews")
        rows.append(
            (
                film.name,
                f"{facts.n_frames / times.median('every frame', RATE):,.0f}",
                *(
                    f"{times.ratio('every frame', way, RATE):.2f} ({times.ratio('every frame', way):.2f})"
                    for way in ways
                ),
            )
        )
    print("Frames a second of one PyAV thread that decodes every frame, and the rate of others over it (by CPU):\n")
    table(("film", "frames/s", "ffmpeg -threads 1 -f null", "sparse decode alone", "windows", "with previews"), rows)


def peers(options: Options) -> None:
    """Cutting windows and previews against the way described of the peers."""
    rows = []
    films = [film for film in FILMS if film.encode == X264]
    for film in films if options.all_films else films[:1]:
        path = make(options.folder, film, options.seconds)
        facts = probe_clip(path)
        times = in_turn(
            {
                "windows": lambda path=path: cut(path),
                "with previews": lambda path=path, facts=facts: cut(path, facts),
                "theirs": lambda path=path: as_the_peers_do(path, window_files=True),
                "theirs without files": lambda path=path: as_the_peers_do(path, window_files=False),
            },
            film.name,
            options.runs,
        )
        rows.append(
            (
                film.name,
                f"{times.median('windows'):.2f}, {times.median('with previews'):.2f}",
                *(
                    f"{times.ratio(theirs, 'windows'):.1f}, {times.ratio(theirs, 'with previews'):.1f}"
                    for theirs in ("theirs", "theirs without files")
                ),
            )
        )
    print("CPU of windows, and of windows with previews, and how many times as much the way of the peers takes:\n")
    table(("film", "ours, s", "peers", "peers without window mp4"), rows)


def cores(options: Options) -> None:
    """Clips a second of two workers against one, in wall-clock time."""
    path = make(options.folder, FILMS[0], options.seconds)
    ratios = []
    for run in range(1, options.runs + 1):
        say(f"{path.name}: run {run} of {options.runs}, eight times on one core, then on two")
        ratios.append(seconds_on(1, path) / seconds_on(2, path))
    print(
        "Clips a second of two cores over one, a worker each, 8 clips, start of the workers included: "
        f"{statistics.median(ratios):.2f}\n"
    )


def memory(options: Options) -> None:
    """Peak memory of cutting long films, and of small and large batches."""
    rows = []
    for film, seconds in LONG_FILMS.items():
        path = make(options.folder, film, seconds)
        say(f"cutting {path.name}")
        rows.append((f"{film.name}, {seconds} s", *in_a_fresh_process("cut_one", path)))
    small = make(options.folder, Film("small.mp4", "ocean.mp4", (640, 360), X264), 10)
    for n in (10, 1000):
        say(f"cutting {n:,} clips")
        rows.append((f"{n:,} clips of 10 s", *in_a_fresh_process("cut_many", small, n)))
    print("Peak resident memory in MB:\n")
    table(("work", "the process that hands out work", "the largest worker"), rows)


# what is measured


def decode_every_frame(path: Path) -> None:
    """Decode a film with one thread and look at nothing."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type, stream.codec_context.thread_count = "NONE", 1
        for _ in container.decode(stream):
            pass


def decode_wanted(path: Path) -> None:
    """Decode what the sampled frames need, and look at nothing: what cutting cannot be faster than."""
    facts = probe_clip(path)
    wanted = {i for window in plan_clip(facts, WindowSettings()) for i in window.frame_indices}
    for _ in decode_frames(path, facts, wanted):
        pass


def cut(path: Path, previews: ClipFacts | None = None) -> None:
    """Cut, pack and hash the windows of a film as the asset does, and make their previews as that asset does.

    previews: what the ledger knows of the film by then; None: no previews.
    """
    with tempfile.TemporaryDirectory() as folder:
        [done] = cut_clip(job_for(path, Path(folder)))
        assert done.problem is None and all(window.outcome.status == "ok" for window in done.windows)
        if previews is not None:
            with ThreadPoolExecutor(os.cpu_count()) as pool:  # a worker for each core, which the encoder needs whole
                list(pool.map(lambda window: preview_of(previews, window, Path(folder)), done.windows))


def preview_of(facts: ClipFacts, window: CutWindow, folder: Path) -> None:
    """Make a preview from packed frames."""
    frames = read_pack(pack_path(folder, window.window_id, PackRule().pack_id))
    made = make_preview(
        frames, window.outcome.window.start_s, window.outcome.window.end_s,
        PreviewSettings(target_height=PREVIEW_HEIGHT),
        source_fps=facts.fps, source_width=facts.display_width, source_height=facts.display_height,
    )  # fmt: skip
    (folder / f"{window.window_id}.webp").write_bytes(made.data)


def as_the_peers_do(path: Path, window_files: bool) -> None:
    """Decode every frame to pixels and keep the sampled ones; a program run for each window file and each preview."""
    facts = probe_clip(path)
    scaler = UprightScaler(facts)
    with tempfile.TemporaryDirectory() as folder:
        for number, window in enumerate(plan_clip(facts, WindowSettings())):
            wanted, kept = set(window.frame_indices), []
            with av.open(str(path)) as container:  # each window opens its clip again and reads up to its end
                container.streams.video[0].thread_type = "NONE"
                for index, frame in enumerate(container.decode(video=0)):
                    if index > window.end_frame:
                        break
                    if index in wanted:
                        kept.append(scaler.rgb(frame, 640, 1152))
            source, times = path, ("-ss", f"{window.start_s:.6f}", "-t", f"{window.end_s - window.start_s:.6f}")
            if window_files:
                source = Path(folder) / f"{number}.mp4"
                ffmpeg(*times, "-i", path, "-an", "-c:v", "libx264", source)
                times = ()
            ffmpeg(
                *times, "-i", source, "-an", "-vf", f"fps=1,scale=-1:{PREVIEW_HEIGHT}", "-c:v", "libwebp",
                "-lossless", "0", "-compression_level", "6", "-q:v", "50", "-loop", "0",
                Path(folder) / f"{number}.webp",
            )  # fmt: skip


def cut_all(films: Sequence[Path], workers: int) -> None:
    """Cut films side by side, as the asset does."""
    with tempfile.TemporaryDirectory() as folder:
        for _, result in map_clips(cut_clip, (job_for(f, Path(folder)) for f in films), workers=workers, timeout_s=600):
            assert not isinstance(result, WorkerFailure), result.reason


def seconds_on(cores: int, path: Path) -> float:
    """Return the seconds that a new process takes to cut a film eight times on so many cores, with a worker each.

    Worker processes keep the cores that the first one was started on, so each measurement has its own.
    """
    script = (
        f"import os, sys; os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:{cores}]); "
        f"sys.path.insert(0, {str(Path(__file__).parent)!r}); import video; video.time_eight({str(path)!r}, {cores})"
    )
    return float(subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout)


def time_eight(path: str, workers: int) -> None:
    """Cut a film eight times, under as many names, and print the seconds."""
    with tempfile.TemporaryDirectory(dir=Path(path).parent) as copies:
        films = [Path(copies) / f"{i}.mp4" for i in range(8)]
        for film in films:
            os.link(path, film)
        print(wall(lambda: cut_all(films, workers)))


def job_for(path: Path, folder: Path) -> CutJob:
    """Return the job of a film; its name stands for its content."""
    status = path.stat()
    return CutJob(
        clips=(FileClip(ids.clip_id(f"{path.name:0>64}")),), location=path, expected_bytes=status.st_size,
        expected_mtime_ns=status.st_mtime_ns, window_recipe=RecipeId("r0"), window_rule=WindowSettings(),
        pack_rule=PackRule(), folder=folder, limits=ClipSettings(),
    )  # fmt: skip


def cut_one(path: str) -> None:
    """Cut one film in a worker."""
    cut_all([Path(path)], 1)


def cut_many(path: str, n: str) -> None:
    """Cut one small film many times over, under many names."""
    with tempfile.TemporaryDirectory(dir=Path(path).parent) as copies:
        films = [Path(copies) / f"{i}.mp4" for i in range(int(n))]
        for film in films:
            os.link(path, film)
        cut_all(films, 2)


# how it is measured


CPU, RATE = 0, 1
"""Which seconds are meant: of CPU, or by the clock."""


class Times:
    """Seconds of each way, turn by turn: of CPU, and by the clock."""

    def __init__(self) -> None:
        self._seconds: dict[str, list[tuple[float, float]]] = {}

    def note(self, what: str, cpu: float, wall: float) -> None:
        """Add a turn."""
        self._seconds.setdefault(what, []).append((cpu, wall))

    def median(self, what: str, kind: int = CPU) -> float:
        """Return the median of a way."""
        return statistics.median(turn[kind] for turn in self._seconds[what])

    def ratio(self, over: str, under: str, kind: int = CPU) -> float:
        """Return the median of what one way takes over what another takes in the same turn."""
        pairs = zip(self._seconds[over], self._seconds[under], strict=True)
        return statistics.median(a[kind] / b[kind] for a, b in pairs)


def in_turn(ways: dict[str, Callable[[], None]], film: str, runs: int) -> Times:
    """Run each way once to warm up, then all of them in turn."""
    times = Times()
    for turn in range(runs + 1):
        say(f"{film}: {f'turn {turn} of {runs}' if turn else 'warming up'}")
        for what, way in ways.items():
            cpu, start = cpu_seconds(), time.perf_counter()
            way()
            if turn:
                times.note(what, cpu_seconds() - cpu, time.perf_counter() - start)
    return times


def cpu_seconds() -> float:
    """Return what this process and its ended children have used."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def wall(work: Callable[[], None]) -> float:
    """Return the seconds that pass."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def in_a_fresh_process(function: str, *arguments: object) -> tuple[str, str]:
    """Return the peak MB of a new process that runs a function of this file, and of its largest descendant."""
    script = (
        f"import resource, sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import video; "
        f"video.{function}(*sys.argv[1:]); "
        "print(*(resource.getrusage(w).ru_maxrss for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))"
    )
    done = [sys.executable, "-c", script, *map(str, arguments)]
    watched = subprocess.Popen(done, stdout=subprocess.PIPE, text=True)
    with ThreadPoolExecutor(1) as pool:
        largest = pool.submit(_largest_descendant, watched)
        output, _ = watched.communicate()
        if watched.returncode:
            raise RuntimeError(f"{function} failed")
        return f"{int(output.split()[0]) / 1024:,.0f}", f"{largest.result() / 1024:,.0f}"


def _largest_descendant(process: "subprocess.Popen[str]") -> int:
    """Return the largest peak in KiB seen in any descendant until the process ends, looking every 20 ms."""
    peak = 0
    while process.poll() is None:
        for pid in _descendants(process.pid):
            try:
                status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
            except OSError:
                continue
            peak = max(peak, next((int(line.split()[1]) for line in status.splitlines() if "VmHWM" in line), 0))
        time.sleep(0.02)
    return peak


def _descendants(pid: int) -> Iterable[int]:
    try:
        children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return
    for child in children:
        yield child
        yield from _descendants(child)


def make(folder: Path, film: Film, seconds: int) -> Path:
    """Return the path of a film; encode it first if it is not there."""
    path = folder / f"{seconds}s_{film.name}"
    if not path.exists():
        width, height = film.size
        say(f"encoding {path.name}: {seconds} s of {width}x{height}")
        staged = path.with_name(f"making_{path.name}")
        ffmpeg(
            "-stream_loop", "-1", "-i", CLIPS / film.clip, "-an", "-t", seconds,
            "-vf", f"scale={width}:{height}:flags=bicubic", "-pix_fmt", "yuv420p", *film.encode, staged,
        )  # fmt: skip
        staged.replace(path)
    return path


def say(what: str) -> None:
    """Say on standard error what is being done, with the seconds since the start."""
    print(f"[{time.perf_counter() - STARTED:5.0f} s] {what}", file=sys.stderr, flush=True)


def ffmpeg(*arguments: object) -> None:
    """Run the program.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    subprocess.run(["ffmpeg", "-v", "error", "-nostdin", "-y", *map(str, arguments)], check=True)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a Markdown table."""
    for row in (head, ["---"] * len(head), *rows):
        print(f"| {' | '.join(row)} |")
    print()


def _ffmpeg_version() -> str:
    said = subprocess.run(["ffmpeg", "-version"], check=True, capture_output=True, text=True).stdout
    return " ".join(said.split()[:3])


if __name__ == "__main__":
    main()
