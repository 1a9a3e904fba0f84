"""The sensor `new_uploads`: a folder below `uploads/` is a batch; a new or changed file in it requests a run.

A batch is complete when nothing in it has changed for 60 s, or at once when it holds a file named `_READY`. The ledger
knows which files are new, and Dagster's runs say what was requested before, so the sensor needs no cursor.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from time import time_ns

import dagster as dg

from caption_assets.ledger.database import Ledger
from caption_assets.locks import is_being_worked_on
from caption_assets.orchestration.partitions import video_batches
from caption_assets.orchestration.resources import RootResource
from caption_assets.root import RootFolder
from caption_assets.uploads.batches import (
    READY_FILE,
    FoundFile,
    RecordedFile,
    changed_within,
    find_files,
    is_recorded,
    list_batches,
)

SETTLED_S = 60
TICK_S = 30

MAX_RUNS_PER_TICK = 100
"""A tick that requests more takes too long; the next ticks request the rest."""

MAX_NAMED = 5
"""Batches that the reason of a skipped tick names."""

RUN_KEY_TAG = "dagster/run_key"

REGISTERED = """(
    SELECT * FROM (
      SELECT u.*, row_number() OVER (PARTITION BY batch, path ORDER BY created_at DESC, run_id) AS age FROM uploads u
    ) rows WHERE age = 1) files"""
"""The newest row of every file, also where it is taken down."""

Files = Mapping[str, Sequence[FoundFile]]


def scan(root: RootFolder) -> tuple[Files, list[str]]:
    """Return the files of every batch that has any, and a sentence for each folder that cannot be a batch."""
    names, refused = list_batches(root.uploads)
    batches = {}
    for name in names:
        try:
            files = find_files(root.uploads, name)
        except OSError:
            continue  # removed or renamed since it was listed
        if files:
            batches[name] = files
    return batches, refused


def recorded_files(ledger: Ledger) -> dict[tuple[str, str], RecordedFile]:
    """Return what the ledger says about every file, by batch and path."""
    return {(file.batch, file.path): file for file in ledger.select(RecordedFile, REGISTERED)}


def new_work(root: RootFolder, batches: Files, recorded: Mapping[tuple[str, str], RecordedFile]) -> dict[str, str]:
    """Return the batches with a file that the ledger does not know as it is now, each with its run key.

    A run key stands for one step: from what the ledger says of changed files to the files as they lie on disk. So no
    state is requested twice, and undoing a change is a step of its own. The root is part of the key because several
    roots may share a Dagster home.
    """
    keys = {}
    for batch, files in batches.items():
        rows = [(file, _current_form(file, recorded.get((batch, file.path)))) for file in files]
        changes = [(file, row) for file, row in rows if not is_recorded(file, row)]
        if changes:
            before = [str(row) for file, row in changes if row is not None and not _was_tried(file, row)]
            text = "\x1e".join([str(root.path), *map(str, files), *before])
            keys[batch] = f"{batch}:{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    return keys


def _current_form(file: FoundFile, row: RecordedFile | None) -> RecordedFile | None:
    """Return `row` with the time of a JSON sidecar that an old row knows by its caption alone."""
    if row is not None and row.columns_mtime_ns is None and row.sidecar_mtime_ns == file.columns_mtime_ns:
        return replace(row, columns_mtime_ns=file.columns_mtime_ns)
    return row


def _was_tried(file: FoundFile, row: RecordedFile) -> bool:
    """Tell whether a run looked at this file as it is and learned nothing, because its worker died."""
    same = (row.bytes, row.mtime_ns) == (file.bytes, file.mtime_ns)
    return same and row.sha256 is None and file.problem is None


def new_uploads_sensor(job_name: str) -> dg.SensorDefinition:
    """Return the sensor that runs the job `job_name` on every batch with new work."""

    @dg.sensor(
        name="new_uploads",
        job_name=job_name,
        minimum_interval_seconds=TICK_S,
        default_status=dg.DefaultSensorStatus.STOPPED,
        description="Registers folders below uploads/ as batches and runs those with new or changed files.",
    )
    def new_uploads(context: dg.SensorEvaluationContext, root: RootResource) -> dg.SensorResult | dg.SkipReason:
        folder, uploads, instance = root.folder, root.folder.uploads, context.instance
        batches, refused = scan(folder)
        for sentence in refused:
            context.log.warning(sentence)
        if not batches:
            return dg.SkipReason("there is no batch below uploads/")
        recorded = recorded_files(root.ledger)
        new = new_work(folder, batches, recorded)
        changing = {
            batch
            for batch in new
            if not (uploads / batch / READY_FILE).exists() and changed_within(uploads / batch, SETTLED_S, time_ns())
        }
        in_use = {batch for batch in new.keys() - changing if is_being_worked_on(folder, batch)}
        complete = {batch: batches[batch] for batch in new if batch not in changing | in_use}
        # Read again: an import that ended before its lock was tried above has recorded its files by now.
        new = new_work(folder, complete, recorded_files(root.ledger)) if complete else {}
        keys_of_runs = dict(instance.get_run_tags([RUN_KEY_TAG])).get(RUN_KEY_TAG, set()) if new else set()
        requested = {batch for batch, key in new.items() if key in keys_of_runs}
        chosen = [batch for batch in new if batch not in requested][:MAX_RUNS_PER_TICK]
        # A new Dagster home beside an old ledger: batches that need no run are partitions too.
        wanted = {*chosen, *(batch for batch, _ in recorded if batch in batches)}
        missing = sorted(wanted - set(instance.get_dynamic_partitions(str(video_batches.name))))
        if not chosen and not missing:
            reasons = {
                f"changed in the last {SETTLED_S} s": changing,
                "used by a run, an import or a takedown": in_use,
                "requested before": requested,
            }
            named = [f"{reason}: {_named(members)}" for reason, members in reasons.items() if members]
            return dg.SkipReason("; ".join(named) or f"nothing new in {len(batches)} batches")
        return dg.SensorResult(
            run_requests=[dg.RunRequest(run_key=new[batch], partition_key=batch) for batch in chosen],
            dynamic_partitions_requests=[video_batches.build_add_request(missing)] if missing else [],
        )

    return new_uploads


def _named(batches: set[str]) -> str:
    named = ", ".join(map(repr, sorted(batches)[:MAX_NAMED]))
    return named + (f" and {n} more" if (n := len(batches) - MAX_NAMED) > 0 else "")
