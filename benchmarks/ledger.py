"""What the ledger costs when it is large. Prints a Markdown table.

    python -m benchmarks.ledger [--size BATCHES CLIPS WINDOWS CANDIDATES] [--rounds 3] [--folder DIR]

The rows are synthetic, but of full width and with real ids. They are written as Parquet, in a file per batch and table,
and brought in by `restore`. Every question is asked as the command or the asset that needs it asks, the opening of the
ledger included, in one process that has asked it once before; the figure is the median of the rounds. By default there
are 100,000 windows, which takes about two minutes; `--size 200 1000 5 4` makes the million that the limits are for,
takes about fifteen and needs 6 GB in the temporary folder. What is going on is said on standard error.
"""

import argparse
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from caption_assets import ids
from caption_assets.engines.protocol import EngineSpec
from caption_assets.engines.registry import ENGINES
from caption_assets.exchange.table import read_table
from caption_assets.ids import ClipId, RecipeId
from caption_assets.ledger import upkeep
from caption_assets.ledger.backup import restore
from caption_assets.ledger.database import Ledger
from caption_assets.ledger.schema import TABLES, CandidateRow, CaptionRow, DecisionRow, Record, polars_types
from caption_assets.pipeline.caption_work import CaptionWork, read_caption_work
from caption_assets.pipeline.plan import plan_batches
from caption_assets.pipeline.report import batch_status
from caption_assets.pipeline.stage_run import active_row, recipe_rows
from caption_assets.pipeline.why import explain
from caption_assets.root import RootFolder
from caption_assets.settings import Settings
from caption_assets.settings.recipes import (
    Recipe,
    caption_recipe,
    clip_recipe,
    retention_recipe,
    split_recipe,
    window_recipe,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
RUN = "bench"
SAMPLED = 16
"""Frames that are sampled from a window."""
WINDOW_FRAMES = 256
SETTINGS = Settings.of({"caption.caption_num": 4, "caption.prompt_text": "Describe the video."})
OTHER_PROMPT = Settings.of({"caption.caption_num": 4, "caption.prompt_text": "Describe the video to a blind person."})
COMMITTED = 512
"""Candidates in a commit."""
LIMITS: Mapping[str, float] = {
    "plan a batch that is done": 0.5,
    "plan a batch after a new prompt": 0.5,
    "why": 0.3,
    "plan of everything": 20.0,
    "what-if of a new prompt": 20.0,
}
"""Seconds, for a million windows."""
MEMORY_LIMIT_MB = 1500
TEXT = (
    "a person walks along the street while cars pass behind them and the light changes from left to right over the "
    "water near tall green trees under a grey sky with slow camera movement"
)
WORDS = TEXT.split()

FILLERS: Mapping[str, object] = {
    "VARCHAR": "-", "JSON": "{}", "BIGINT": 0, "INTEGER": 0, "DOUBLE": 0.0, "BOOLEAN": False, "TIMESTAMPTZ": NOW,
    "VARCHAR[]": [],
}  # fmt: skip


@dataclass(frozen=True)
class Size:
    """How much there is: clips per batch, windows per clip, candidates per window."""

    batches: int
    clips: int
    windows: int
    candidates: int

    @property
    def all_windows(self) -> int:
        """Windows in the ledger."""
        return self.batches * self.clips * self.windows


def say(text: str) -> None:
    """Tell on standard error what is going on."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def caption_recipe_of(settings: Settings) -> Recipe:
    """Return the caption recipe of `settings` under the embedded engine."""
    return caption_recipe(settings, ENGINES["signal"].identify(EngineSpec.for_captions(settings)))


def batch_name(number: int) -> str:
    """Return the name of a batch."""
    return f"batch-{number:04}"


# The rows.


def frame(table: str, number: int, columns: Mapping[str, Any]) -> pl.DataFrame:
    """Return rows of `table`, made in hour `number`: `columns` as given, what else may not be NULL filled in."""
    length = max(len(value) for value in columns.values() if isinstance(value, list | np.ndarray))
    made = {"run_id": RUN, "created_at": NOW + timedelta(hours=number)}
    series = []
    for column in TABLES[table].columns:
        dtype = polars_types()[column.type]
        value = columns.get(column.name, made.get(column.name, None if column.nullable else FILLERS.get(column.type)))
        if isinstance(value, np.ndarray):
            series.append(pl.Series(column.name, value).cast(dtype))
        elif isinstance(value, list) and len(value) == length:
            series.append(pl.Series(column.name, value, dtype=dtype))
        else:
            series.append(pl.Series(column.name, [value], dtype=dtype).new_from_index(0, length))
    return pl.DataFrame(series)


def rows_of_batch(number: int, size: Size, recipes: Mapping[str, RecipeId]) -> Iterator[tuple[str, pl.DataFrame]]:
    """Yield the rows of a batch, table by table."""
    draw = random.Random(number)
    noise = np.random.default_rng(number)
    hashes = [ids.digest("video", number, clip) * 2 for clip in range(size.clips)]
    clips = [ids.clip_id(sha256) for sha256 in hashes]
    n_frames = size.windows * WINDOW_FRAMES
    yield "uploads", frame("uploads", number, {
        "batch": batch_name(number), "path": [f"{clip:05}.mp4" for clip in range(size.clips)], "sha256": hashes,
        "clip_id": list(clips), "status": "ok", "recipe_id": recipes["clip"],
    })  # fmt: skip
    yield "clips", frame("clips", number, {
        "clip_id": list(clips), "recipe_id": recipes["clip"], "video_sha256": hashes, "n_frames": n_frames, "fps": 25.0,
        "duration_s": n_frames / 25, "codec": "h264", "display_width": 1280, "display_height": 720,
    })  # fmt: skip
    yield "window_sets", frame("window_sets", number, {
        "clip_id": list(clips), "recipe_id": recipes["window"], "n_windows": size.windows, "status": "ok",
        "window_ids_sha256": hashes,
    })  # fmt: skip
    starts = [index * WINDOW_FRAMES for index in range(size.windows)]
    windows = [
        ids.window_id(ClipId(clip), start, start + WINDOW_FRAMES - 1, recipes["window"])
        for clip in clips
        for start in starts
    ]
    n = len(windows)
    start_frames = np.tile(np.array(starts), size.clips)
    sampled = start_frames[:, None] + np.linspace(0, WINDOW_FRAMES - 1, SAMPLED).astype(np.int32)[None, :]
    yield "windows", frame("windows", number, {
        "window_id": list(windows), "clip_id": [clip for clip in clips for _ in starts],
        "recipe_id": recipes["window"], "window_index": list(range(size.windows)) * size.clips,
        "start_frame": start_frames, "end_frame": start_frames + WINDOW_FRAMES - 1,
        "start_s": start_frames / 25, "end_s": (start_frames + WINDOW_FRAMES) / 25,
        "frame_indices": sampled.astype(np.int32), "frame_times_s": sampled / 25,
        "frame_hashes": noise.integers(0, 2**64, (n, SAMPLED), dtype=np.uint64),
        "luma_low": noise.integers(0, 256, (n, 72), dtype=np.uint8),
        "luma_high": noise.integers(0, 256, (n, 72), dtype=np.uint8),
        "color": "#8090a0", "frames_digest": [ids.digest("frames", window) for window in windows], "status": "ok",
    })  # fmt: skip
    tasks = [ids.task_id("caption", window, recipes["caption"]) for window in windows]
    candidates = [ids.candidate_id(task, index, 1) for task in tasks for index in range(size.candidates)]
    of_window = [window for window in windows for _ in range(size.candidates)]
    total = len(candidates)
    yield "caption_candidates", frame("caption_candidates", number, {
        "candidate_id": list(candidates), "task_id": [task for task in tasks for _ in range(size.candidates)],
        "window_id": of_window, "recipe_id": recipes["caption"],
        "sample_index": list(range(size.candidates)) * n, "attempt": 1, "stage": 1, "origin": "model", "status": "ok",
        "text": [" ".join(draw.choices(WORDS, k=20)) for _ in range(total)], "finish_reason": "stop",
        "seed": noise.integers(0, 2**32, total), "prompt_tokens": 6000,
        "output_tokens": noise.integers(20, 80, total), "latency_ms": noise.random(total) * 4000,
    })  # fmt: skip
    ranks = list(range(1, size.candidates + 1)) * n
    yield "retention_decisions", frame("retention_decisions", number, {
        "decision_id": ["d" + ids.digest(window, recipes["retention"]) for window in of_window],
        "candidate_id": list(candidates), "window_id": of_window, "recipe_id": recipes["caption"],
        "policy_recipe_id": recipes["retention"],
        "candidate_set_sha256": [ids.digest("set", window) for window in of_window],
        "action": ["keep" if rank == 1 else "drop" for rank in ranks],
        "reason_code": ["RANDOM_DRAW" if rank == 1 else "LOWER_RANK" for rank in ranks], "rank": ranks,
        "evidence": '{"drawn": 1}', "policy": "random_any", "decided_by": "policy",
    })  # fmt: skip


def write_rows(folder: Path, size: Size) -> int:
    """Write the rows of a ledger as Parquet below `folder`, and return how many there are."""
    chosen = [
        clip_recipe(SETTINGS),
        split_recipe(SETTINGS),
        window_recipe(SETTINGS),
        caption_recipe_of(SETTINGS),
        retention_recipe(SETTINGS),
    ]
    recipes: dict[str, RecipeId] = {recipe.kind: recipe.recipe_id for recipe in chosen}
    total = 0

    def write(table: str, batch: str, rows: pl.DataFrame) -> None:
        nonlocal total
        total += rows.height
        path = folder / table / batch / f"{RUN}.parquet"
        path.parent.mkdir(parents=True)
        rows.write_parquet(path, compression="zstd")

    for number in range(size.batches):
        if number % 20 == 0:
            say(f"writing rows of batch {number} of {size.batches}")
        batch = batch_name(number)
        if number == 0:
            for row in (row for recipe in chosen for row in recipe_rows(recipe, RUN)):
                write(row.table.name, row_id(row), frame_of(row.table.name, [row]))
        current = [active_row(recipe, batch, RUN, RUN) for recipe in chosen]
        write("active_recipes", batch, frame_of("active_recipes", current))
        for table, made in rows_of_batch(number, size, recipes):
            write(table, batch, made)
    return total


def frame_of(table: str, rows: Sequence[Record]) -> pl.DataFrame:
    """Return rows that the product made."""
    names = [column.name for column in TABLES[table].columns]
    return frame(table, 0, {name: [getattr(row, name) for row in rows] for name in names})


def row_id(row: Record) -> str:
    """Return the first column of a row's key."""
    return str(getattr(row, row.table.key[0]))


# What is measured.


def median_s(ask: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Return the median seconds of `rounds` calls, after one that does not count, by the clock and of CPU."""
    ask()
    clock, cpu = [], []
    for _ in range(rounds):
        start, cpu_start = time.perf_counter(), time.process_time()
        ask()
        clock.append(time.perf_counter() - start)
        cpu.append(time.process_time() - cpu_start)
    return statistics.median(clock), statistics.median(cpu)


def peak_mb() -> float:
    """Return the most memory that this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def restore_rows(root: RootFolder, rows: Path) -> None:
    """Restore, and print `seconds CPU-seconds MB`."""
    start = time.perf_counter()
    unreadable = restore(root, rows)
    assert not unreadable, unreadable
    print(time.perf_counter() - start, time.process_time(), peak_mb())


def questions(root: RootFolder, size: Size, rounds: int) -> None:
    """Ask every question and print `name|what came out|seconds|CPU seconds|MB`."""
    ledger, other = Ledger(root), caption_recipe_of(OTHER_PROMPT)
    middle = batch_name(size.batches // 2)

    def ask(name: str, question: Callable[[], object]) -> None:
        say(f"{name}, {rounds + 1} times")
        clock, cpu = median_s(question, rounds)
        print(f"{name}|{question()}|{clock}|{cpu}|{peak_mb()}", flush=True)

    def left_to_do() -> str:
        work = ledger.read(read_caption_work, middle)
        return f"{len(work.missing)} windows of {len(work.rows)} to do"

    ask("plan a batch that is done", left_to_do)
    window = ledger.read(upkeep.batch_rows, middle)[0].window_id

    def explained() -> str:
        explanation = explain(ledger, window)
        assert explanation is not None
        return f"{len(explanation.candidates)} candidates"

    ask("why", explained)
    ask("status of a batch", lambda: _captioned(ledger, middle))
    ask("status of everything", lambda: _captioned(ledger, None))
    ask("caption table of a batch", lambda: f"{len(ledger.read(read_table, middle))} rows")
    ask("plan of a batch", lambda: _planned(ledger, SETTINGS, middle))
    ask("plan of everything", lambda: _planned(ledger, SETTINGS, None))
    ask("what-if of a new prompt", lambda: _planned(ledger, OTHER_PROMPT, None))
    ledger.commit([*recipe_rows(other, RUN), active_row(other, middle, RUN, RUN)])
    ask("plan a batch after a new prompt", left_to_do)
    work = ledger.read(read_caption_work, middle)
    kinds: Mapping[str, Callable[[Ledger, Sequence[CaptionRow], RecipeId], str]] = {
        "candidates": _commit_candidates, "decisions": _commit_decisions,
    }  # fmt: skip
    for kind, commit in kinds.items():
        done: list[str] = []
        ask(f"commit {COMMITTED} {kind}", partial(_commit_next, commit, ledger, work, done, other.recipe_id))


def _captioned(ledger: Ledger, batch: str | None) -> str:
    return f"{sum(row.captioned for row in ledger.read(batch_status, batch)):,} captioned"


def _planned(ledger: Ledger, settings: Settings, batch: str | None) -> str:
    planned = plan_batches(ledger, settings, "signal", batch)
    return f"{sum(int(str(row['captions'])) for row in planned):,} captions to make"


def _commit_next(
    commit: Callable[[Ledger, Sequence[CaptionRow], RecipeId], str],
    ledger: Ledger,
    work: CaptionWork,
    done: list[str],
    recipe: RecipeId,
) -> str:
    """Commit rows of the next windows of a batch, and add these to those that are `done`."""
    rows = work.rows[len(done) : len(done) + COMMITTED]
    assert rows, "a batch has fewer windows than the commits need; use fewer rounds"
    done += [row.window_id for row in rows]
    return commit(ledger, rows, recipe)


def _commit_candidates(ledger: Ledger, rows: Sequence[CaptionRow], recipe: RecipeId) -> str:
    """Commit a candidate of each window, as `vl_captions` does every two seconds."""
    candidates = []
    for row in rows:
        task = ids.task_id("caption", row.window_id, recipe)
        candidates.append(
            CandidateRow(
                candidate_id=ids.candidate_id(task, 0, 1), task_id=task, window_id=row.window_id, recipe_id=recipe,
                sample_index=0, attempt=1, stage=1, origin="model", status="ok", text=TEXT, run_id=RUN,
                created_at=datetime.now(UTC),
            )
        )  # fmt: skip
    return f"{ledger.commit(candidates)['caption_candidates']} rows"


def _commit_decisions(ledger: Ledger, rows: Sequence[CaptionRow], recipe: RecipeId) -> str:
    """Commit a decision on each window, which changes its row in `captions`."""
    decisions = [
        DecisionRow(
            decision_id="d" + ids.digest(row.window_id, recipe), candidate_id=row.candidate_id or "",
            window_id=row.window_id, recipe_id=recipe, policy_recipe_id="policy", candidate_set_sha256="-",
            action="keep", reason_code="BENCH", rank=1, evidence="{}", policy="bench", decided_by="policy", run_id=RUN,
            created_at=datetime.now(UTC),
        )
        for row in rows
    ]  # fmt: skip
    return f"{ledger.commit(decisions)['retention_decisions']} rows"


def in_process(*arguments: str) -> str:
    """Run this file again with `arguments`, so that memory is counted for that alone, and return what it prints."""
    command = [sys.executable, "-m", "benchmarks.ledger", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def table(root: RootFolder, size: Size, rounds: int) -> str:
    """Build, measure and return the Markdown table."""
    rows = root.path / "rows"
    total = write_rows(rows, size)
    say(f"restoring {total:,} rows")
    clock, cpu, restore_mb = map(float, in_process("--restore", str(rows), "--folder", str(root.path)).split())
    shape = [str(value) for value in (size.batches, size.clips, size.windows, size.candidates)]
    asked = in_process("--ask", "--folder", str(root.path), "--rounds", str(rounds), "--size", *shape)
    file_mb = (root.ledger / "ledger.duckdb").stat().st_size / 1e6
    lines = [
        f"{size.all_windows:,} windows, {size.all_windows * size.candidates:,} candidates, {total:,} rows; a file of "
        f"{file_mb:,.0f} MB; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores",
        "",
        "| | limit, for a million windows | by the clock | of CPU | peak memory so far |",
        "|---|---|---|---|---|",
        f"| restore: {total / clock:,.0f} rows/s | {MEMORY_LIMIT_MB:,} MB | {clock:.0f} s | {cpu:.0f} s | "
        f"{restore_mb:,.0f} MB |",
    ]
    for line in asked.splitlines():
        name, out, clock_s, cpu_s, memory = line.split("|")
        limit = f"{LIMITS[name]:g} s, {MEMORY_LIMIT_MB:,} MB" if name in LIMITS else "-"
        times = f"{float(clock_s):.3f} s | {float(cpu_s):.3f} s"
        lines.append(f"| {name}: {out} | {limit} | {times} | {float(memory):,.0f} MB |")
    return "\n".join(lines)


def main() -> int:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs=4, default=(20, 1000, 5, 4), metavar=("B", "C", "W", "K"),
                        help="batches, clips per batch, windows per clip, candidates per window")  # fmt: skip
    parser.add_argument("--rounds", type=int, default=3, help="of each question")
    parser.add_argument("--folder", type=Path, help="where to work; by default a temporary folder, removed at the end")
    parser.add_argument("--restore", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--ask", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    size = Size(*chosen.size)
    if chosen.restore:
        restore_rows(RootFolder.at(chosen.folder), chosen.restore)
    elif chosen.ask:
        questions(RootFolder.at(chosen.folder), size, chosen.rounds)
    else:
        folder = Path(tempfile.mkdtemp(prefix="bench-ledger-", dir=chosen.folder))
        try:
            print(table(RootFolder.at(folder), size, chosen.rounds))
        finally:
            shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
