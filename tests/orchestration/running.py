"""The main job, run in this process on a root folder, and what it did: work handed out, rows written, what is shown."""

import json
import logging
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

import caption_assets.assets.raw_clips
import caption_assets.assets.windows
import caption_assets.pipeline.previews
import caption_assets.video.frame_store
from caption_assets.definitions import defs
from caption_assets.engines import registry
from caption_assets.ledger.database import Ledger
from caption_assets.ledger.schema import HISTORY
from caption_assets.root import RootFolder
from tests.orchestration.engines import EngineLog, counting

ASSETS = ("raw_clips", "windows", "vl_captions", "enhanced_captions", "previews", "caption_table")
CHECKS = {
    "clips_partition_files",
    "windows_partition_clips",
    "windows_have_candidates",
    "one_decision_per_candidate",
    "tokens_as_reckoned",
    "previews_decode",
    "no_drifted_text_is_shown",
}
HAND_OUT_WORK = (
    caption_assets.assets.raw_clips,
    caption_assets.assets.windows,
    caption_assets.pipeline.previews,
    caption_assets.video.frame_store,
)
"""Modules that give work to worker processes."""

logging.getLogger("dagster").setLevel(logging.CRITICAL)


@dataclass
class Ran:
    """A finished run of the main job."""

    root: Path
    batch: str
    result: dg.ExecuteInProcessResult
    handed_out: Counter[str]
    engine: EngineLog
    new_rows: dict[str, int]

    @property
    def ok(self) -> bool:
        return self.result.success

    @property
    def work(self) -> dict[str, int]:
        """What was done, by kind; kinds that were not needed are left out."""
        return dict(+(self.handed_out + self.engine.candidates))

    @property
    def checks(self) -> dict[str, bool]:
        """Asset checks by name, and whether each passed."""
        found = [e.asset_check_evaluation_data for e in self.result.all_events if _is(e, "ASSET_CHECK_EVALUATION")]
        return {check.check_name: check.passed for check in found}

    def shown(self, asset: str, batch: str | None = None) -> dict[str, Any]:
        """Metadata of the asset's materialization of a batch."""
        [found] = [
            event.materialization
            for event in self.result.all_events
            if _is(event, "ASSET_MATERIALIZATION")
            and event.asset_key == dg.AssetKey(asset)
            and event.partition == (batch or self.batch)
        ]
        return {name: value.value for name, value in found.metadata.items()}

    def counts(self, asset: str) -> tuple[int, int, int]:
        """New, reused and failed items of an asset, as the UI shows them."""
        shown = self.shown(asset)
        return shown["new"], shown["reused"], shown["failed"]

    def error(self) -> str:
        """The innermost exception of the step that failed."""
        [event] = [e for e in self.result.all_events if _is(e, "STEP_FAILURE")]
        error = event.event_specific_data.error
        while error.cause is not None:
            error = error.cause
        return error.message


def _is(event: dg.DagsterEvent, kind: str) -> bool:
    return event.event_type_value == kind


def run_job(
    root: Path,
    batch: str = "b",
    *,
    engine: str = "signal",
    settings: Mapping[str, Any] | None = None,
    last_batch: str | None = None,
    log: EngineLog | None = None,
) -> Ran:
    """Run the main job on one batch, or on all from `batch` to `last_batch`, and count what it hands out."""
    ledger = Ledger(RootFolder.at(root))
    log = log or EngineLog()
    config: dict[str, Any] = {
        "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
        "resources": {
            "root": {"config": {"path": str(root)}},
            "engine": {"config": {"engine": engine}},
            "settings": {
                "config": {"decode.workers": 1, **(settings or {})}
            },  # as fast for short films, with less to start
        },
    }
    batches = sorted(path.name for path in (root / "uploads").iterdir())
    where: dict[str, Any] = {"partition_key": batch}
    if last_batch:
        where = {
            "tags": {"dagster/asset_partition_range_start": batch, "dagster/asset_partition_range_end": last_batch}
        }
    before = row_counts(ledger)
    with dg.DagsterInstance.ephemeral() as instance, counted_work(log) as handed_out:
        instance.add_dynamic_partitions("video_batch", batches)
        job = defs.resolve_job_def("caption_batch")
        result = job.execute_in_process(instance=instance, run_config=config, raise_on_error=False, **where)
    after = row_counts(ledger)
    new_rows = {name: after[name] - before[name] for name in after if after[name] != before[name]}
    return Ran(root, batch, result, handed_out, log, new_rows)


@contextmanager
def counted_work(log: EngineLog) -> Iterator[Counter[str]]:
    """Count the items that are handed to worker processes, per function, and the requests to the signal engine."""
    handed_out: Counter[str] = Counter()

    def spy_on(module: Any) -> Any:
        map_jobs = module.map_jobs

        def counted(fn: Any, jobs: Any, decode: Any) -> Any:
            handed_out[fn.__name__] += len(jobs)
            return map_jobs(fn, jobs, decode)

        return counted

    with pytest.MonkeyPatch.context() as patch:
        for module in HAND_OUT_WORK:
            patch.setattr(module, "map_jobs", spy_on(module))
        patch.setitem(registry.ENGINES, "signal", counting(registry.ENGINES["signal"], log))
        yield handed_out


def row_counts(ledger: Ledger) -> dict[str, int]:
    """Rows of every table of the ledger's history."""
    counts = [f"SELECT '{name}' AS name, count(*) AS n FROM {name}" for name in HISTORY]
    return {str(row["name"]): int(str(row["n"])) for row in ledger.query(" UNION ALL ".join(counts))}


@dataclass(frozen=True)
class Files:
    """Every file below a folder with its times and inode, to tell whether anything touched it."""

    seen: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)

    @classmethod
    def below(cls, folder: Path) -> "Files":
        return cls(
            {
                str(path.relative_to(folder)): (path.stat().st_ino, path.stat().st_mtime_ns, path.stat().st_size)
                for path in sorted(folder.rglob("*"))
                if path.is_file()
            }
        )


def copy_root(source: Path, target: Path) -> Path:
    """Copy a root folder; uploads and frames are never written to in place, so they are linked."""

    def link(a: str, b: str) -> str:
        Path(b).hardlink_to(a)
        return b

    for folder in source.iterdir():
        linked = folder.name in ("uploads", "frames")
        shutil.copytree(folder, target / folder.name, copy_function=link if linked else shutil.copy2)
    return target


def query(root: Path, sql: str, **parameters: object) -> list[dict[str, Any]]:
    """Ask the ledger of a root folder."""
    return Ledger(RootFolder.at(root)).query(sql, **parameters)


def table(root: Path, batch: str = "b") -> list[dict[str, Any]]:
    """The exported caption table of a batch."""
    text = (root / "exports" / batch / "captions.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.split("\n")[:-1]]
