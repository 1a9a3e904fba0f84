"""One asset at work on one batch: recipes made current, rows committed as they come, progress and counts."""

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
from caption_assets.ledger.schema import ActiveRecipeRow, PromptRow, RecipeRow, Record, RunRow, as_json
from caption_assets.root import RootFolder
from caption_assets.settings.recipes import CODE_VERSIONS, Recipe

COMMIT_EVERY_S = 2.0
MOST_COMMITTING = 10
"""A stage spends at most a tenth of its time on commits, so that those of a large ledger do not hold it up."""

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

    def commit(self, rows: Iterable[Record]) -> dict[str, int]:
        """Append rows to the ledger."""
        return self.ledger.commit(rows)

    def commit_as_they_come(self, results: Iterable[Sequence[Record]], total: int) -> None:
        """Commit a stream of results, as the function of this name does for several stages."""
        commit_as_they_come(((self, rows) for rows in results), {self: total})

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

    def run_row(self, status: str, error: str | None = None) -> RunRow:
        """Return the row of table `runs` for this stage."""
        return RunRow(
            run_id=self.run_id,
            asset_key=self.asset,
            batch=self.batch,
            attempt=self._attempt,
            status=status,
            started_at=self.started,
            ended_at=datetime.now(UTC),
            n_expected=self.expected,
            n_ok=self.new,
            n_error=self.failed,
            n_reused=self.reused,
            versions=as_json(library_versions()),
            host=platform.node() or "unknown",
            gpu=gpu_name(),
            error=error,
            created_at=datetime.now(UTC),
        )


def commit_as_they_come(
    results: Iterable[tuple[StageRun, Sequence[Record]]],
    totals: Mapping[StageRun, int],
    *,
    pace: Callable[[], str] = str,
) -> None:
    """Commit a stream of results, the rows of one item of one of several stages each, and report progress.

    Results are committed every two seconds, or every ten times as long as a commit takes: a killed run loses no more
    than that. pace: what is added to the log's lines of progress.
    """
    done = dict.fromkeys(totals, 0)
    ledger = next(iter(totals)).ledger if totals else None
    waiting: list[Record] = []
    due = time.monotonic() + COMMIT_EVERY_S

    def commit() -> float:
        start = time.monotonic()
        if ledger is not None and waiting:
            ledger.commit(waiting)
            waiting.clear()
        end = time.monotonic()
        return end + max(COMMIT_EVERY_S, MOST_COMMITTING * (end - start))

    try:
        for run, rows in results:
            waiting += rows
            done[run] += 1
            run.progress(done[run], totals[run], pace())
            if time.monotonic() >= due:
                due = commit()
    finally:
        commit()  # what is done stays done, however the stream ends


def activate(ledger: Ledger, batch: str, recipes: Sequence[Recipe], set_by: str, run_id: str) -> None:
    """Make each of `recipes` current for `batch`, unless it is already."""
    active = ledger.select(ActiveRecipeRow, "active_recipes WHERE batch = $batch", batch=batch)
    last: dict[str, ActiveRecipeRow] = {}
    for row in sorted(active, key=lambda row: row.valid_from):
        last[row.kind] = row
    rows: list[Record] = []
    for recipe in recipes:
        before = last.get(recipe.kind)
        if before is None or before.recipe_id != recipe.recipe_id:
            since = valid_after(before.valid_from if before else None)
            rows += recipe_rows(recipe, run_id)
            rows.append(active_row(recipe, batch, set_by, run_id, since))
    ledger.commit(rows)


def valid_after(newest: datetime | None) -> datetime:
    """Return now, or just after `newest` where this machine's clock is behind it: what is chosen last is current."""
    now = datetime.now(UTC)
    return now if newest is None else max(now, newest + timedelta(microseconds=1))


def recipe_rows(recipe: Recipe, run_id: str) -> list[Record]:
    """Return the rows that store a recipe with its prompts."""
    now, identity = datetime.now(UTC), recipe.identity
    prompts = [
        PromptRow(
            prompt_sha256=prompt.sha256, name=prompt.name, version=prompt.version, text=prompt.text, run_id=run_id,
            created_at=now,
        )
        for prompt in recipe.prompts
    ]  # fmt: skip
    stored = RecipeRow(
        recipe_id=recipe.recipe_id,
        kind=recipe.kind,
        name=recipe.name,
        params=recipe.canonical_json,
        model_id=identity.model_id if identity else None,
        model_revision=identity.model_revision if identity else None,
        engine=identity.engine if identity else None,
        engine_version=identity.engine_version if identity else None,
        prompt_sha256=recipe.prompts[0].sha256 if recipe.prompts else None,
        code_version=CODE_VERSIONS[recipe.kind],
        run_id=run_id,
        created_at=now,
    )
    return [*prompts, stored]


def active_row(recipe: Recipe, batch: str, set_by: str, run_id: str, since: datetime | None = None) -> ActiveRecipeRow:
    """Return the row that makes a stored recipe current for `batch`. since: from when on; now by default."""
    now = datetime.now(UTC)
    return ActiveRecipeRow(
        kind=recipe.kind,
        batch=batch,
        recipe_id=recipe.recipe_id,
        valid_from=since or now,
        set_by=set_by,
        run_id=run_id,
        created_at=now,
    )


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
