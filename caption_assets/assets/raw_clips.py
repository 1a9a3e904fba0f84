"""raw_clips: every file of a batch, probed once; a bad file is a row that says why."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import dagster as dg

from caption_assets.ids import ClipId
from caption_assets.ledger.captions import (
    BatchFile,
    BatchHistory,
    current_split,
    current_uploads,
    group,
    newest,
    standing_takedowns,
    unsplit_files,
    wanted_clips,
)
from caption_assets.ledger.schema import Record, UploadRow, as_json
from caption_assets.ledger.upkeep import read_history
from caption_assets.orchestration.declare import video_batch_asset
from caption_assets.orchestration.metadata import sample_table
from caption_assets.orchestration.resources import RootResource, SettingsResource
from caption_assets.orchestration.stage import stage
from caption_assets.pipeline.stage_run import StageRun
from caption_assets.settings import Settings
from caption_assets.settings.recipes import Recipe, clip_recipe, split_recipe
from caption_assets.uploads.batches import FoundFile, find_files, is_recorded
from caption_assets.uploads.inspect import InspectJob, inspect_file
from caption_assets.uploads.register import Beside, clip_row, split_rows, upload_row
from caption_assets.uploads.sidecar import SidecarError, read_columns, read_original_caption
from caption_assets.video.scenes import check_scene_detection
from caption_assets.video.split_job import FileSplit, SplitJob, split_file
from caption_assets.video.workers import WorkerFailure, map_jobs

T = TypeVar("T")

GONE = "the file is not in uploads/ any more"
PART_COLUMNS = ("path", "start_s", "end_s", "n_frames", "cut_score", "clip_id")


@video_batch_asset(kinds={"ffmpeg", "duckdb"}, table="uploads", code_kind="clip")
def raw_clips(context: dg.AssetExecutionContext, root: RootResource, settings: SettingsResource) -> None:
    """The clips of a batch: identity by content, facts from packets and decoded frames, `ok` or `quarantined`.

    One pass over the packets of each file that is new or has changed. A file that cannot be used is a row with the
    reason, and the rest of the batch goes on. With the setting `clip.split` on, a file is then split into clips: for a
    stride by its times, for scenes by decoding all of it at a small size.
    """
    values = settings.values()
    if values.clip.split == "scenes":
        check_scene_detection()
    for batch in context.partition_keys:
        with stage(context, root, "raw_clips", batch, "file") as run:
            recipe = clip_recipe(values)
            run.activate(recipe, split_recipe(values))
            history = run.ledger.read(read_history, batch, windows=False)
            files, recorded = _find(run, history), current_uploads(history)
            if run.commit([*_gone(run, files, recorded), *_beside_again(run, files, recorded)]):
                history = run.ledger.read(read_history, batch, windows=False)
            changed = _changed(files, history, recipe)
            run.commit_as_they_come(_inspect(run, changed, values, recipe), len(changed))
            if changed:
                history = run.ledger.read(read_history, batch, windows=False)
            unsplit = unsplit_files(history)
            run.commit_as_they_come(_split(run, history, unsplit, values), len(unsplit))
            if unsplit:
                history = run.ledger.read(read_history, batch, windows=False)
            _report(run, history, {file.path for file in changed} | {file.path for file in unsplit}, values)


def _report(run: StageRun, history: BatchHistory, tried: set[str], settings: Settings) -> None:
    """Count the files of a batch and show them. tried: the paths that this run probed or split."""
    facts = {(clip.clip_id, clip.recipe_id): clip for clip in history.clips}
    uploads = [row for row in current_uploads(history) if row.status != "gone"]
    bad = [row for row in uploads if row.status == "quarantined"]
    unsplit = {file.path: _why_unsplit(history, file) for file in unsplit_files(history)}
    failed = {row.path for row in bad} | unsplit.keys()
    run.expected, run.failed = len(uploads), len(failed)
    run.new = sum(row.path in tried - failed for row in uploads)
    run.reused = run.expected - run.new - run.failed
    for row in bad:
        run.log.warning(f"{run.batch}/{row.path}: quarantined: {row.error}")
    for path, error in unsplit.items():
        run.log.warning(f"{run.batch}/{path}: not split into clips: {error}")
    shown = [
        {
            "path": row.path, "status": row.status, "error": row.error, "n_frames": clip and clip.n_frames,
            "duration_s": clip and clip.duration_s, "fps": clip and clip.fps, "codec": clip and clip.codec,
            "flags": clip and ", ".join(clip.flags),
        }
        for row in [*bad, *uploads]
        for clip in [facts.get((row.clip_id or "", row.recipe_id))]
    ]  # fmt: skip
    names = ("path", "status", "error", "n_frames", "duration_s", "fps", "codec", "flags")
    run.metadata["files"] = sample_table(shown, names)
    if settings.clip.split != "none":
        run.metadata["clips"] = sample_table(_parts(history), PART_COLUMNS)
    if unsplit:
        rows = [{"path": path, "error": error} for path, error in unsplit.items()]
        run.metadata["files not split"] = sample_table(rows, ("path", "error"))


def _parts(history: BatchHistory) -> list[dict[str, object]]:
    """Return the clips that the files of a batch are split into, in order."""
    facts = {(clip.clip_id, clip.recipe_id): clip for clip in history.clips}
    parts: list[dict[str, object]] = []
    for part in sorted(wanted_clips(history), key=lambda part: (part.file.path, part.start_frame or 0)):
        clip = facts.get((part.clip_id, part.split_recipe_id or ""))
        if clip is not None:
            start_s, end_s = clip.source_start_s or 0.0, clip.source_end_s or clip.duration_s
            values = (part.file.path, start_s, end_s, clip.n_frames, clip.cut_score, clip.clip_id)
            parts.append(dict(zip(PART_COLUMNS, values, strict=True)))
    return parts


def _why_unsplit(history: BatchHistory, file: BatchFile) -> str | None:
    """Return why a file could not be split by the current recipe; None where it has not been tried."""
    recipe = current_split(history)
    sets = [row for row in history.clip_sets if (row.source_clip_id, row.recipe_id) == (file.clip_id, recipe)]
    return newest(sets).error if sets else None


def _changed(files: Sequence[FoundFile], history: BatchHistory, recipe: Recipe) -> list[FoundFile]:
    """Return the files that are new, differ in size or time, or were probed by an older recipe."""
    known = {row.path: row for row in current_uploads(history)}
    probed = {clip.clip_id for clip in history.clips if clip.recipe_id == recipe.recipe_id}

    def is_known(file: FoundFile) -> bool:
        row = known.get(file.path)
        if row is None or row.recipe_id != recipe.recipe_id or not is_recorded(file, row):
            return False
        return row.status != "ok" or row.clip_id in probed  # a restore may have lost the clip's own row

    return [file for file in files if not is_known(file)]


def _find(run: StageRun, history: BatchHistory) -> list[FoundFile]:
    """Return the files of the batch; a folder that is gone, or was taken down, has none."""
    if ("batch", run.batch) in standing_takedowns(history.tombstones):
        run.log.warning(f"{run.batch}: this batch was taken down; nothing is made for it")
        return []
    try:
        return find_files(run.root.uploads, run.batch)
    except FileNotFoundError as fault:
        run.log.warning(f"{fault}; what was captioned before is still served")
        return []


def _gone(run: StageRun, files: Sequence[FoundFile], recorded: Sequence[UploadRow]) -> list[UploadRow]:
    """Return a row for each recorded file that is not there any more. Its captions are served until a takedown."""
    present, now = {file.path for file in files}, datetime.now(UTC)
    return [
        replace(row, status="gone", error=GONE, run_id=run.run_id, created_at=now)
        for row in recorded
        if row.path not in present and row.status != "gone"
    ]


def _beside_again(run: StageRun, files: Sequence[FoundFile], recorded: Sequence[UploadRow]) -> list[UploadRow]:
    """Return a row for each file of which only what lies beside it has changed: the video is not read again."""
    by_path, now = {file.path: file for file in files}, datetime.now(UTC)
    rows = []
    for row in recorded:
        file = by_path.get(row.path)
        if file is None or row.status != "ok" or is_recorded(file, row):
            continue
        timed = replace(row, sidecar_mtime_ns=file.sidecar_mtime_ns, columns_mtime_ns=file.columns_mtime_ns)
        if is_recorded(file, timed):
            beside = _beside(run, file)
            rows.append(
                replace(
                    timed,
                    original_caption=beside.original_caption,
                    columns=beside.columns,
                    run_id=run.run_id,
                    created_at=now,
                )
            )
    return rows


def _inspect(
    run: StageRun, files: Sequence[FoundFile], settings: Settings, recipe: Recipe
) -> Iterator[Sequence[Record]]:
    by_path = {file.path: file for file in files}
    folder = run.root.uploads / run.batch
    for file in files:
        if file.problem is not None:
            now = datetime.now(UTC)
            yield [upload_row(run.batch, file, None, file.problem, Beside(), recipe.recipe_id, run.run_id, now)]
    jobs = [InspectJob(f.path, folder / f.path, settings.clip) for f in files if f.problem is None]
    for job, result in map_jobs(inspect_file, jobs, settings.decode):
        file, now = by_path[job.path], datetime.now(UTC)
        problem = result.reason if isinstance(result, WorkerFailure) else None
        inspected = None if isinstance(result, WorkerFailure) else result
        beside = _beside(run, file)
        rows: list[Record] = [
            upload_row(run.batch, file, inspected, problem, beside, recipe.recipe_id, run.run_id, now)
        ]
        if inspected is not None and inspected.facts is not None:
            rows.append(clip_row(inspected.sha256, inspected.facts, recipe.recipe_id, run.run_id, now))
        yield rows


def _split(
    run: StageRun, history: BatchHistory, files: Sequence[BatchFile], settings: Settings
) -> Iterator[Sequence[Record]]:
    """Split files into clips under the current recipe."""
    recipe = split_recipe(settings).recipe_id
    uploads = {row.path: row for row in current_uploads(history)}
    by_clip = group(history.clips, lambda clip: clip.clip_id)
    facts = {file.clip_id: max(by_clip[file.clip_id], key=lambda clip: clip.created_at) for file in files}
    jobs = [
        SplitJob(
            source=ClipId(file.clip_id),
            location=run.root.uploads / run.batch / file.path,
            expected_bytes=uploads[file.path].bytes or 0,
            expected_mtime_ns=uploads[file.path].mtime_ns or 0,
            clip=settings.clip,
        )
        for file in files
    ]
    for job, result in map_jobs(split_file, jobs, settings.decode):
        split = FileSplit(problem=result.reason) if isinstance(result, WorkerFailure) else result
        clips, manifest = split_rows(facts[job.source], split, recipe, run.run_id, datetime.now(UTC))
        yield [*clips, manifest]


def _beside(run: StageRun, file: FoundFile) -> Beside:
    """Return what a file's sidecars hold. One that cannot be used is left out with a warning."""

    def read(what: str, reader: Callable[[Path], T], path: Path | None) -> T | None:
        if path is None:
            return None
        try:
            return reader(path)
        except (SidecarError, OSError) as fault:
            run.log.warning(f"{run.batch}/{file.path}: its {what} left out: {fault}")
            return None

    columns = read("columns are", read_columns, file.columns)
    return Beside(
        original_caption=read("original caption is", read_original_caption, file.sidecar),
        columns=None if columns is None else as_json(columns),
    )
