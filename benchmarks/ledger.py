"""What the ledger costs with a million windows and four million candidates. Prints a Markdown table.

    make bench-ledger

The rows are synthetic but of full width and with real ids. They are written by the part writer of the product, in a
part per batch and table, and brought in by `Ledger.rebuild`. Every question is asked as the command or the stage that
needs it asks, the opening of the file included, each in one process that has asked it once before; the figure is the
median of the rounds. Works in a temporary folder, about 4 GB at the full size.
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
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from caption_assets import ids
from caption_assets.engines.protocol import EngineSpec
from caption_assets.engines.registry import ENGINES
from caption_assets.ids import ClipId, RecipeId, WindowId
from caption_assets.ledger import parts
from caption_assets.ledger.database import Ledger
from caption_assets.ledger.schema import TABLES
from caption_assets.pipeline.plan import plan_batches
from caption_assets.pipeline.stage_run import recipe_rows
from caption_assets.pipeline.why import explain
from caption_assets.root import RootFolder
from caption_assets.settings import Settings
from caption_assets.settings.recipes import (
    Recipe,
    caption_recipe,
    clip_recipe,
    enhance_recipe,
    retention_recipe,
    split_recipe,
    window_recipe,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
RUN = "bench"
SAMPLED = 16
WINDOW_FRAMES = 256
SETTINGS = Settings.of({"caption.caption_num": 4, "caption.prompt_text": "Describe the video."})
OTHER_PROMPT = Settings.of({"caption.caption_num": 4, "caption.prompt_text": "Describe the video for a blind person."})
FEW = 20
"""Candidates in a small part."""
QUIET_S = 5.0
"""How long the reader is timed before the compaction."""
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


def identity(settings: Settings) -> Recipe:
    """Return the caption recipe of `settings` under the embedded engine."""
    return caption_recipe(settings, ENGINES["signal"].identify(EngineSpec.for_captions(settings)))


def batch_name(number: int) -> str:
    """Return the name of a batch."""
    return f"batch-{number:04}"


def frame(table: str, number: int, columns: Mapping[str, Any]) -> pl.DataFrame:
    """Return rows of `table`, made in hour `number`: `columns` as given, what else may not be NULL filled in."""
    length = max(len(value) for value in columns.values() if isinstance(value, list | np.ndarray))
    made = {"run_id": RUN, "created_at": NOW + timedelta(hours=number)}
    series = []
    for column in TABLES[table].columns:
        dtype = TABLES[table].polars_schema[column.name]
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


def write_parts(root: RootFolder, size: Size) -> int:
    """Write the parts of a ledger, and return how many rows they have."""
    chosen = [clip_recipe(SETTINGS), split_recipe(SETTINGS), window_recipe(SETTINGS), identity(SETTINGS),
              retention_recipe(SETTINGS)]  # fmt: skip
    recipes = {recipe.kind: recipe.recipe_id for recipe in chosen}
    folder, total = root.ledger / "parts", 0

    def write(table: str, batch: str, rows: pl.DataFrame) -> None:
        nonlocal total
        total += rows.height
        temporary = parts.write_temporary_part(parts.part_folder(folder, table, batch), rows)
        temporary.rename(temporary.with_name(f"{RUN}{parts.PART_SUFFIX}"))

    for number in range(size.batches):
        batch = batch_name(number)
        current: dict[str, list[parts.Row]] = {"prompts": [], "recipes": [], "active_recipes": []}
        for recipe in chosen:
            for table, rows in recipe_rows(recipe, batch, RUN, RUN).items():
                if number == 0 or table == "active_recipes":
                    current[table] += rows
        for table, rows in current.items():
            if rows:
                write(table, batch, parts.as_frame(TABLES[table], rows))
        for table, made in rows_of_batch(number, size, recipes):
            write(table, batch, made)
    return total


def median_s(ask: Callable[[], object], rounds: int) -> float:
    """Return the median seconds of `rounds` calls, after one that does not count."""
    ask()
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        ask()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def peak_bytes() -> int:
    """Return the most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def rebuild(root: RootFolder) -> None:
    """Rebuild, and print `seconds rows bytes`."""
    start = time.perf_counter()
    made = Ledger(root).rebuild()
    assert not made.unreadable, made.unreadable
    print(time.perf_counter() - start, sum(made.rows.values()), peak_bytes())


def questions(root: RootFolder, size: Size, rounds: int) -> None:
    """Ask every question and print `name|seconds|what came out`, then the memory."""
    ledger, other = Ledger(root), identity(OTHER_PROMPT)
    middle = batch_name(size.batches // 2)

    def ask(name: str, question: Callable[[], Any]) -> None:
        print(f"{name}|{median_s(question, rounds)}|{question()}", flush=True)

    ask("plan a batch that is done", lambda: len(ledger.named("caption_work", batch=middle)))
    window = WindowId(
        ledger.query("SELECT window_id FROM batch_windows WHERE batch = $b LIMIT 1", b=middle)[0]["window_id"]
    )
    ask("why", lambda: len((explain(ledger, window) or {})["candidates"]))
    ask(
        "what-if of a new prompt",
        lambda: sum(row["captions"] for row in plan_batches(ledger, OTHER_PROMPT, "signal", None)),
    )
    ask("plan of everything as it is", lambda: len(plan_batches(ledger, SETTINGS, "signal", None)))
    ask("plan of a batch as it is", lambda: len(plan_batches(ledger, SETTINGS, "signal", middle)))
    ask("status of a batch", lambda: len(ledger.named("status", batch=middle)))
    ask("status of everything", lambda: len(ledger.named("status", batch=None)))
    ask("table of a batch", lambda: len(ledger.named("caption_table", batch=middle)))
    ledger.commit("bench-2", middle, recipe_rows(other, middle, RUN, "bench-2"))
    ask("plan a batch after a new prompt", lambda: len(ledger.named("caption_work", batch=middle)))
    overrule(ledger, middle, window)
    ask("why, overruled and not enhanced", lambda: len((explain(ledger, window) or {})["not_enhanced"]))
    ask("override that stands", lambda: len(ledger.named("standing_override", window=window)))
    ask("commit 512 candidates", lambda: commit_candidates(ledger, middle, other))
    print(f"memory|{peak_bytes()}|")


def overrule(ledger: Ledger, batch: str, window: WindowId) -> None:
    """Have a batch enhanced, and a person keep no caption of a window: it is not enhanced, with the reason."""
    entry = ENGINES["signal"]
    recipe = enhance_recipe(SETTINGS, entry.identify(EngineSpec.for_enhancement(SETTINGS)))
    [candidate, *_] = ledger.named("window_candidates", window=window)
    row = {
        "decision_id": "d" + ids.digest(window, "bench"), "candidate_id": candidate["candidate_id"],
        "window_id": window, "recipe_id": candidate["recipe_id"], "policy_recipe_id": "override",
        "candidate_set_sha256": "-", "action": "drop",
        "reason_code": "NOT_CHOSEN_BY_PERSON", "evidence": {}, "policy": "override", "decided_by": "user:bench",
        "run_id": "bench-3", "created_at": datetime.now(UTC),
    }  # fmt: skip
    ledger.commit("bench-3", batch, {**recipe_rows(recipe, batch, RUN, "bench-3"), "retention_decisions": [row]})


def commit_candidates(ledger: Ledger, batch: str, recipe: Recipe) -> dict[str, int]:
    """Commit candidates of the first 512 windows that miss one."""
    sql = "SELECT window_id FROM batch_windows WHERE batch = $batch ORDER BY window_id LIMIT 512"
    now, run = datetime.now(UTC), f"bench-{time.time_ns()}"
    rows = [
        {
            "candidate_id": "k" + ids.digest(row["window_id"], run), "task_id": "t", "window_id": row["window_id"],
            "recipe_id": recipe.recipe_id, "sample_index": 0, "attempt": 1, "stage": 1, "origin": "model",
            "status": "error", "run_id": run, "created_at": now,
        }
        for row in ledger.query(sql, batch=batch)
    ]  # fmt: skip
    return ledger.commit(run, batch, {"caption_candidates": rows})


def write_small_parts(root: RootFolder, count: int) -> None:
    """Write `count` parts of a few candidates each, as runs leave them that commit every few seconds, and rebuild."""
    folder, recipe = parts.part_folder(root.ledger / "parts", "caption_candidates", batch_name(0)), identity(SETTINGS)
    folder.mkdir(parents=True)
    windows = [f"w{ids.digest('window', number)}" for number in range(count * FEW)]
    tasks = [ids.task_id("caption", WindowId(window), recipe.recipe_id) for window in windows]
    rows = frame("caption_candidates", 0, {
        "candidate_id": [ids.candidate_id(task, 0, 1) for task in tasks], "task_id": list(tasks), "window_id": windows,
        "recipe_id": recipe.recipe_id, "attempt": 1, "stage": 1, "origin": "model", "status": "ok", "text": TEXT,
    })  # fmt: skip
    for number in range(count):
        rows.slice(number * FEW, FEW).write_parquet(folder / f"run-{number:05}{parts.PART_SUFFIX}", compression="zstd")
    assert Ledger(root).rebuild().rows["caption_candidates"] == count * FEW


def read_on(root: RootFolder) -> None:
    """Ask for every row again and again until standard input ends; print `questions longest_s median_s`.

    Raises:
        AssertionError: an answer lacked a row, or had one more.
    """
    ledger = Ledger(root)
    sql = "SELECT count(*) AS n, bit_xor(hash(candidate_id, text)) AS rows FROM caption_candidates"
    ask, whole = (lambda: ledger.query(sql)), ledger.query(sql)
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    print("ready", flush=True)
    taken: list[float] = []
    while not taken or not ended.is_set():
        start = time.perf_counter()
        assert ask() == whole
        taken.append(time.perf_counter() - start)
        time.sleep(0.01)  # one that never stops would hold up the compaction
    print(len(taken), max(taken), statistics.median(taken))


def compact(folder: Path, count: int) -> list[str]:
    """Compact `count` small parts while another process reads, and return lines of the table."""
    root = RootFolder.at(folder)
    write_small_parts(root, count)
    quiet = _beside_a_reader(root, lambda: time.sleep(QUIET_S))
    start = time.perf_counter()
    n, longest_s, median_s = _beside_a_reader(root, lambda: Ledger(root).compact())
    taken_s = time.perf_counter() - start
    left = len(parts.all_parts(root.ledger / "parts", "caption_candidates"))
    assert Ledger(root).rebuild().rows["caption_candidates"] == count * FEW
    return [
        f"| compaction of {count:,} parts into {left:,}, while a process reads | - | {taken_s:.1f} s |",
        f"| longest wait of the reader, who saw every row {n:,.0f} times | - | {longest_s * 1000:,.0f} ms (median "
        f"{median_s * 1000:,.0f}; without the compaction {quiet[1] * 1000:,.0f}, median {quiet[2] * 1000:,.0f}) |",
    ]


def _beside_a_reader(root: RootFolder, work: Callable[[], object]) -> tuple[float, float, float]:
    command = [sys.executable, __file__, "--read", str(root.path)]
    reader = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert reader.stdin is not None and reader.stdout is not None
    assert reader.stdout.readline() == "ready\n"
    try:
        work()
    finally:
        said, _ = reader.communicate()
    assert reader.returncode == 0
    n, longest_s, median_s = map(float, said.split())
    return n, longest_s, median_s


def in_process(*arguments: str) -> str:
    """Run this file again with `arguments`, so that memory is counted for that alone, and return what it prints."""
    command = [sys.executable, __file__, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def table(root: RootFolder, size: Size, rounds: int, rebuilds: int, small_parts: int) -> str:
    """Build, measure and return the Markdown table."""
    start = time.perf_counter()
    total = write_parts(root, size)
    written_s = time.perf_counter() - start
    rebuilt = [tuple(map(float, in_process("--rebuild", str(root.path)).split())) for _ in range(rebuilds)]
    assert all(rows == total for _, rows, _ in rebuilt)
    seconds, memory = statistics.median(s for s, _, _ in rebuilt), max(peak for _, _, peak in rebuilt)
    shape = [str(value) for value in (size.batches, size.clips, size.windows, size.candidates)]
    asked = in_process("--ask", str(root.path), "--rounds", str(rounds), "--size", *shape)
    found = {name: (float(value), out) for name, value, out in (line.split("|") for line in asked.splitlines())}
    target = {
        "plan a batch that is done": 0.05,
        "plan a batch after a new prompt": 0.05,
        "why": 0.1,
        "why, overruled and not enhanced": 0.1,
        "what-if of a new prompt": 1.5,
    }
    asking, _ = found.pop("memory")
    lines = [
        f"{size.all_windows:,} windows, {size.all_windows * size.candidates:,} candidates, {total:,} rows, written in "
        f"{written_s:.0f} s; database {Ledger(root).database.stat().st_size / 2**20:,.0f} MiB; "
        f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores",
        "",
        "| | target | measured |",
        "|---|---|---|",
        f"| rebuild from parts | 200,000 rows/s | {total / seconds:,.0f} rows/s ({seconds:.1f} s) |",
        f"| memory of the rebuild | 1,500 MB | {memory / 1e6:,.0f} MB |",
    ]
    for name, (value, out) in found.items():
        limit = f"{target[name] * 1000:,.0f} ms" if name in target else "-"
        lines.append(f"| {name} ({out}) | {limit} | {value * 1000:,.0f} ms |")
    lines.append(f"| memory of all questions | 1,500 MB | {asking / 1e6:,.0f} MB |")
    return "\n".join([*lines, *compact(root.path / "compaction", small_parts)])


def main() -> int:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="of each question")
    parser.add_argument("--rebuilds", type=int, default=3)
    parser.add_argument("--size", type=int, nargs=4, default=(200, 1000, 5, 4), metavar=("B", "C", "W", "K"),
                        help="batches, clips per batch, windows per clip, candidates per window")  # fmt: skip
    parser.add_argument("--folder", type=Path, help="where to work; by default a temporary folder, removed at the end")
    parser.add_argument("--small-parts", type=int, default=10_000, help="of the compaction")
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--rebuild", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--ask", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    size = Size(*chosen.size)
    if chosen.rebuild:
        rebuild(RootFolder.at(chosen.rebuild))
    elif chosen.read:
        read_on(RootFolder.at(chosen.read))
    elif chosen.ask:
        questions(RootFolder.at(chosen.ask), size, chosen.rounds)
    else:
        folder = Path(tempfile.mkdtemp(prefix="bench-ledger-", dir=chosen.folder))
        try:
            print(table(RootFolder.at(folder), size, chosen.rounds, chosen.rebuilds, chosen.small_parts))
        finally:
            shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
