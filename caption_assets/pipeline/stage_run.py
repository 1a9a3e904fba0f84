"""One asset at work on one batch: recipes made current, rows committed as they come, progress and counts."""

import json
import os
import platform
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Protocol

from caption_assets import __version__
from caption_assets.ledger.database import Ledger
from caption_assets.ledger.journal import Journal, left_behind
from caption_assets.ledger.parts import Row
from caption_assets.root import RootFolder
from caption_assets.settings.recipes import Recipe

COMMIT_EVERY_ROWS = 512
COMMIT_EVERY_S = 10.0
"""Results are committed as they come, so that a killed run loses at most so much of its work; of
what an engine made it loses nothing (see `ledger.journal`)."""

REPORT_EVERY_S = 10.0


class StageListener(Protocol):
    """Told what stages of this process do, as they do it."""

    def progress(self, asset: str, batch: str, done: int, total: int) -> None:
        """`done` of `total` items of a stage are finished."""

    def finished(self, asset: str, batch: str, summary: str, seconds: float) -> None:
        """A stage ended well."""


class Log(Protocol):
    """Where a stage says what it does: Dagster's log of the run, or any logger."""

    def info(self, msg: str) -> None:
        """Say something."""

    def warning(self, msg: str) -> None:
        """Say something that a person should see."""


listeners: list[StageListener] = []
"""The command line puts its progress display here."""


class StageRun:
    """One asset at work on one batch, inside one run. attempt counts from 1."""

    def __init__(
        self, root: RootFolder, ledger: Ledger, asset: str, batch: str, run_id: str, log: Log, attempt: int = 1
    ):
        self.root = root
        self.ledger = ledger
        self.asset = asset
        self.batch = batch
        self.run_id = run_id
        self.log = log
        self.started = datetime.now(UTC)
        self.expected = self.new = self.failed = self.reused = 0
        self.metadata: dict[str, Any] = {}
        self._attempt = attempt
        self._clock = time.monotonic()
        self._last_report = self._clock

    @property
    def seconds(self) -> float:
        """Seconds since the stage began."""
        return time.monotonic() - self._clock

    def activate(self, *recipes: Recipe) -> None:
        """Make each of `recipes` current for this batch, unless it is already."""
        activate(self.ledger, self.batch, recipes, f"run:{self.run_id}", self.run_id)

    def commit(self, rows: Mapping[str, Sequence[Row]]) -> dict[str, int]:
        """Append rows to the ledger, per table."""
        return self.ledger.commit(self.run_id, self.batch, rows)

    def commit_as_they_come(
        self, results: Iterable[Mapping[str, Sequence[Row]]], total: int, *, journaled: bool = False
    ) -> None:
        """Commit a stream of results, as the function of this name does for several stages."""
        commit_as_they_come(((self, rows) for rows in results), {self: total}, journaled=journaled)

    def recover(self) -> None:
        """Commit what a run that was killed had made of this batch and had no time to commit."""
        for path, run_id, rows in left_behind(self.root.journals(self.batch)):
            try:
                new = self.ledger.commit(run_id, self.batch, rows)
            except ValueError as fault:  # of another version, say: what it holds is made again
                aside = path.with_suffix(".unusable")
                path.replace(aside)
                self.log.warning(f"{self.batch}: {aside} holds results that do not fit the ledger: {fault}")
                continue
            path.unlink()
            if any(new.values()):
                self.log.info(f"{self.batch}: {sum(new.values())} results of run {run_id}, which was killed, are kept")

    def progress(self, done: int, total: int, pace: str = "") -> None:
        """Report how far the stage is: to listeners at once, to the log every few seconds."""
        for listener in listeners:
            listener.progress(self.asset, self.batch, done, total)
        now = time.monotonic()
        if now - self._last_report >= REPORT_EVERY_S and done < total:
            self._last_report = now
            rate = done / max(self.seconds, 1e-9)
            self.log.info(f"{self.batch}: {done} of {total}, {rate:.2f}/s, {(total - done) / rate:.0f} s left{pace}")

    def summary(self, unit: str) -> str:
        """Return the counts as a sentence, e.g. `7 windows reused`."""
        counts = [(self.new, "made"), (self.reused, "reused"), (self.failed, "failed")]
        said = [f"{count} {_plural(unit, count)} {what}" for count, what in counts if count]
        return ", ".join(said) or f"no {unit}s"

    def run_row(self, status: str, error: str | None = None) -> dict[str, object]:
        """Return the row of table `runs` for this stage."""
        return {
            "run_id": self.run_id,
            "asset_key": self.asset,
            "batch": self.batch,
            "attempt": self._attempt,
            "status": status,
            "started_at": self.started,
            "ended_at": datetime.now(UTC),
            "n_expected": self.expected,
            "n_ok": self.new,
            "n_error": self.failed,
            "n_reused": self.reused,
            "versions": library_versions(),
            "host": platform.node() or "unknown",
            "gpu": gpu_name(),
            "error": error,
            "created_at": datetime.now(UTC),
        }


def commit_as_they_come(
    results: Iterable[tuple[StageRun, Mapping[str, Sequence[Row]]]],
    totals: Mapping[StageRun, int],
    *,
    journaled: bool = False,
    pace: Callable[[], str] = str,
) -> None:
    """Commit a stream of results, each rows per table of one of several stages, every few seconds; report progress.

    journaled: each result is dear, so that not even a kill may cost it: it is in a journal until it is committed.
    pace: what is added to the log's lines of progress.
    """
    open_stages = {run: _Uncommitted(run, journaled=journaled) for run in totals}
    done = dict.fromkeys(totals, 0)
    try:
        for run, rows in results:
            open_stages[run].add(rows)
            done[run] += 1
            run.progress(done[run], totals[run], pace())
    finally:
        for uncommitted in open_stages.values():
            uncommitted.close()  # what is done stays done, however the stream ends


class _Uncommitted:
    """Results of one stage that wait for the next commit."""

    def __init__(self, run: StageRun, *, journaled: bool) -> None:
        self._run = run
        self._journal = Journal(run.root.journals(run.batch), run.run_id) if journaled else None
        self._rows: dict[str, list[Row]] = {}
        self._since = time.monotonic()

    def add(self, rows: Mapping[str, Sequence[Row]]) -> None:
        if self._journal:
            self._journal.add(rows)
        for table, made in rows.items():
            self._rows.setdefault(table, []).extend(made)
        waiting = sum(map(len, self._rows.values()))
        if waiting >= COMMIT_EVERY_ROWS or time.monotonic() - self._since >= COMMIT_EVERY_S:
            self._commit()

    def close(self) -> None:
        self._commit()
        if self._journal:
            self._journal.close()

    def _commit(self) -> None:
        self._run.commit(self._rows)
        if self._journal:
            self._journal.clear()
        self._rows, self._since = {}, time.monotonic()


def activate(ledger: Ledger, batch: str, recipes: Sequence[Recipe], set_by: str, run_id: str) -> None:
    """Make each of `recipes` current for `batch`, unless it is already."""
    current = {row["kind"]: row for row in ledger.named("batch_recipes", batch=batch)}
    rows: dict[str, list[Row]] = {}
    for recipe in recipes:
        before = current.get(recipe.kind, {"recipe_id": None, "valid_from": None})
        if before["recipe_id"] != recipe.recipe_id:
            since = valid_after(before["valid_from"])
            for table, made in recipe_rows(recipe, batch, set_by, run_id, since=since).items():
                rows.setdefault(table, []).extend(made)
    ledger.commit(run_id, batch, rows)


def valid_after(newest: datetime | None) -> datetime:
    """Return now, or just after `newest` where this machine's clock is behind it: what is chosen last is current."""
    now = datetime.now(UTC)
    return now if newest is None else max(now, newest + timedelta(microseconds=1))


def recipe_rows(
    recipe: Recipe, batch: str, set_by: str, run_id: str, note: str | None = None, since: datetime | None = None
) -> dict[str, list[Row]]:
    """Return the rows that make `recipe` current for `batch`. since: from when on; now by default."""
    now = datetime.now(UTC)
    made = {"run_id": run_id, "created_at": now}
    identity = recipe.identity
    return {
        "prompts": [
            {"prompt_sha256": p.sha256, "name": p.name, "version": p.version, "text": p.text, **made}
            for p in recipe.prompts
        ],
        "recipes": [
            {
                "recipe_id": recipe.recipe_id,
                "kind": recipe.kind,
                "name": recipe.name,
                "params": recipe.canonical_json,
                "model_id": identity.model_id if identity else None,
                "model_revision": identity.model_revision if identity else None,
                "engine": identity.engine if identity else None,
                "engine_version": identity.engine_version if identity else None,
                "prompt_sha256": recipe.prompts[0].sha256 if recipe.prompts else None,
                "code_version": json.loads(recipe.canonical_json)["code_version"],
                **made,
            }
        ],
        "active_recipes": [
            {
                "kind": recipe.kind,
                "batch": batch,
                "recipe_id": recipe.recipe_id,
                "valid_from": since or now,
                "set_by": set_by,
                "note": note,
                **made,
            }
        ],
    }


@cache
def library_versions() -> dict[str, str]:
    """Return the versions that can change a result."""
    libraries = ("av", "dagster", "duckdb", "numpy", "polars", "simplejpeg")
    found = {name: version(name) for name in libraries}
    for name in ("scenedetect-headless", "scenedetect", "opencv-python-headless", "opencv-python"):
        with suppress(PackageNotFoundError):  # an extra
            found[name] = version(name)
    return {"caption_assets": __version__, "python": platform.python_version(), **found}


@cache
def gpu_name() -> str | None:
    """Return the name of the first NVIDIA GPU, or None."""
    if not os.path.exists("/dev/nvidia0"):  # noqa: PTH110 - a device node, not a file to open
        return None
    try:
        command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.split("\n")[0]
    except (OSError, subprocess.SubprocessError):
        return None


def _plural(unit: str, count: int) -> str:
    return unit if count == 1 else f"{unit}s"
