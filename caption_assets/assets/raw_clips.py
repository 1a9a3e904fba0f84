"""raw_clips: every file of a batch, probed once; a bad file is a row that says why."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg

from caption_assets.ids import ClipId
from caption_assets.orchestration.declare import video_batch_asset
from caption_assets.orchestration.metadata import sample_table
from caption_assets.orchestration.resources import RootResource, SettingsResource
from caption_assets.orchestration.stage import stage
from caption_assets.pipeline.stage_run import StageRun
from caption_assets.settings import Settings
from caption_assets.settings.recipes import Recipe, clip_recipe, split_recipe
from caption_assets.uploads.batches import SIDECAR_TIMES, FoundFile, find_files, is_recorded
from caption_assets.uploads.inspect import InspectJob, inspect_file
from caption_assets.uploads.register import clip_row, split_rows, upload_row
from caption_assets.uploads.sidecar import SidecarError, read_columns, read_original_caption
from caption_assets.video.scenes import check_scene_detection
from caption_assets.video.split_job import FileSplit, SplitJob, split_file
from caption_assets.video.workers import WorkerFailure, map_jobs

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
            files = _find(run)
            recorded = run.ledger.named("batch_uploads_raw", batch=batch)
            run.commit({"uploads": [*_gone(run, files, recorded), *_beside_again(run, files, recorded)]})
            changed = _changed(run, files, recipe)
            run.commit_as_they_come(_inspect(run, changed, values, recipe), len(changed))
            made = {file.path for file in changed} | _split(run, values)
            rows = [row for row in run.ledger.named("batch_uploads", batch=batch) if row["status"] != "gone"]
            bad = [row for row in rows if row["status"] == "quarantined"]
            unsplit = run.ledger.named("files_not_split", batch=batch)
            failed = {row["path"] for row in [*bad, *unsplit]}
            run.expected, run.failed = len(rows), len(failed)
            run.new = sum(row["path"] in made - failed for row in rows)
            run.reused = run.expected - run.new - run.failed
            for row in bad:
                context.log.warning(f"{batch}/{row['path']}: quarantined: {row['error']}")
            for row in unsplit:
                context.log.warning(f"{batch}/{row['path']}: not split into clips: {row['error']}")
            shown = ("path", "status", "error", "n_frames", "duration_s", "fps", "codec", "flags")
            run.metadata["files"] = sample_table(bad + rows, shown)
            if values.clip.split != "none":
                run.metadata["clips"] = sample_table(run.ledger.named("batch_parts", batch=batch), PART_COLUMNS)
            if unsplit:
                run.metadata["files not split"] = sample_table(unsplit, ("path", "error"))


def _changed(run: StageRun, files: list[FoundFile], recipe: Recipe) -> list[FoundFile]:
    """Return the files that are new, differ in size or time, or were probed by an older recipe."""
    known = {row["path"]: row for row in run.ledger.named("batch_uploads", batch=run.batch)}

    def is_known(file: FoundFile) -> bool:
        row = known.get(file.path)
        if row is None or row["recipe_id"] != recipe.recipe_id or not is_recorded(file, row):
            return False
        return row["status"] != "ok" or row["n_frames"] is not None  # a rebuild may have lost the clip's own row

    return [file for file in files if not is_known(file)]


def _find(run: StageRun) -> list[FoundFile]:
    """Return the files of the batch; a folder that is gone, or was taken down, has none."""
    if run.ledger.named("takedown_of", kind="batch", object=run.batch):
        run.log.warning(f"{run.batch}: this batch was taken down; nothing is made for it")
        return []
    try:
        return find_files(run.root.uploads, run.batch)
    except FileNotFoundError as fault:
        run.log.warning(f"{fault}; what was captioned before is still served")
        return []


def _gone(run: StageRun, files: list[FoundFile], recorded: Sequence[Mapping[str, Any]]) -> list[dict[str, object]]:
    """Return a row for each recorded file that is not there any more. Its captions are served until a takedown."""
    there, now = {file.path for file in files}, datetime.now(UTC)
    return [
        {**row, "status": "gone", "error": GONE, "batch": run.batch, "run_id": run.run_id, "created_at": now}
        for row in recorded
        if row["path"] not in there and row["status"] != "gone"
    ]


def _beside_again(
    run: StageRun, files: list[FoundFile], recorded: Sequence[Mapping[str, Any]]
) -> list[dict[str, object]]:
    """Return a row for each file of which only what lies beside it has changed: the video is not read again."""
    found, now = {file.path: file for file in files}, datetime.now(UTC)
    rows = []
    for row in recorded:
        file = found.get(row["path"])
        if file is None or row["status"] != "ok" or is_recorded(file, row):
            continue
        times = {name: getattr(file, name) for name in SIDECAR_TIMES}
        if is_recorded(file, {**row, **times}):
            beside = {**_beside(run, file), **times}
            rows.append({**row, **beside, "run_id": run.run_id, "created_at": now})
    return rows


def _inspect(
    run: StageRun, files: list[FoundFile], settings: Settings, recipe: Recipe
) -> Iterator[dict[str, list[dict[str, object]]]]:
    by_path = {file.path: file for file in files}
    folder = run.root.uploads / run.batch
    for file in files:
        if file.problem is not None:
            now = datetime.now(UTC)
            yield {"uploads": [upload_row(run.batch, file, None, file.problem, {}, recipe.recipe_id, run.run_id, now)]}
    jobs = [InspectJob(f.path, folder / f.path, settings.clip) for f in files if f.problem is None]
    for job, result in map_jobs(inspect_file, jobs, settings.decode):
        file, now = by_path[job.path], datetime.now(UTC)
        problem = result.reason if isinstance(result, WorkerFailure) else None
        inspected = None if isinstance(result, WorkerFailure) else result
        row = upload_row(run.batch, file, inspected, problem, _beside(run, file), recipe.recipe_id, run.run_id, now)
        rows: dict[str, list[dict[str, object]]] = {"uploads": [row]}
        if inspected is not None and inspected.facts is not None:
            rows["clips"] = [clip_row(inspected.sha256, inspected.facts, recipe.recipe_id, run.run_id, now)]
        yield rows


def _split(run: StageRun, settings: Settings) -> set[str]:
    """Split every file that is not split yet under the current recipe; return the paths of those that were tried."""
    files = run.ledger.named("files_to_split", batch=run.batch)
    if files:
        run.commit_as_they_come(_split_files(run, files, settings), len(files))
    return {str(row["path"]) for row in files}


def _split_files(
    run: StageRun, files: Sequence[Mapping[str, Any]], settings: Settings
) -> Iterator[dict[str, list[dict[str, object]]]]:
    recipe = split_recipe(settings).recipe_id
    by_source = {row["clip_id"]: row for row in files}
    jobs = [
        SplitJob(
            source=ClipId(row["clip_id"]),
            location=run.root.uploads / run.batch / row["path"],
            expected_bytes=row["file_bytes"],
            expected_mtime_ns=row["mtime_ns"],
            clip=settings.clip,
        )
        for row in files
    ]
    for job, result in map_jobs(split_file, jobs, settings.decode):
        split = FileSplit(problem=result.reason) if isinstance(result, WorkerFailure) else result
        clips, manifest = split_rows(by_source[job.source], split, recipe, run.run_id, datetime.now(UTC))
        yield {"clips": clips, "clip_sets": [manifest]}


def _beside(run: StageRun, file: FoundFile) -> dict[str, object]:
    """Return the columns of `uploads` that a file's sidecars fill. One that cannot be used is said so and left out."""

    def read(what: str, reader: Callable[[Path], object], path: Path | None) -> object:
        if path is None:
            return None
        try:
            return reader(path)
        except (SidecarError, OSError) as fault:
            run.log.warning(f"{run.batch}/{file.path}: its {what} left out: {fault}")
            return None

    return {
        "original_caption": read("original caption is", read_original_caption, file.sidecar),
        "columns": read("columns are", read_columns, file.columns),
    }
