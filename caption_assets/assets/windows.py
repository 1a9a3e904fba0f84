"""windows: each clip cut into windows, their sampled frames packed. The only decode in the whole graph."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path

import dagster as dg

from caption_assets.assets.raw_clips import raw_clips
from caption_assets.ids import ClipId
from caption_assets.orchestration.declare import video_batch_asset
from caption_assets.orchestration.metadata import histogram, picture, sample_table
from caption_assets.orchestration.resources import RootResource, SettingsResource
from caption_assets.orchestration.stage import stage
from caption_assets.pipeline.dedupe import collapsed_windows, record_duplicates
from caption_assets.pipeline.frames import frames_of_clip
from caption_assets.pipeline.stage_run import StageRun
from caption_assets.settings import Settings
from caption_assets.settings.recipes import dedupe_recipe, window_recipe
from caption_assets.video.contact_sheet import frame_strip
from caption_assets.video.pack import PackRule, pack_path, read_pack
from caption_assets.video.rows import window_rows
from caption_assets.video.window_job import CutJob, FileClip, cut_clip, not_cut
from caption_assets.video.workers import WorkerFailure, map_jobs


@video_batch_asset(kinds={"ffmpeg", "parquet"}, table="windows", code_kind="window", deps=[raw_clips])
def windows(context: dg.AssetExecutionContext, root: RootResource, settings: SettingsResource) -> None:
    """Runs of 256 frames of each clip, with the frames sampled from them packed as JPEG.

    Every file is decoded once for all clips in it, several files side by side. A clip that is in another batch too is
    not decoded again. A window that looks like the one before it is collapsed into it, as `dedupe.mode` says: it is
    not captioned.
    """
    values = settings.values()
    for batch in context.partition_keys:
        with stage(context, root, "windows", batch, "window") as run:
            run.activate(window_recipe(values))
            jobs = _jobs(run, values)
            run.commit_as_they_come(_cut(run, jobs, values), len(jobs))
            run.activate(dedupe_recipe(values))
            record_duplicates(run.ledger, batch, values, run.run_id)
            rows = run.ledger.named("batch_windows", batch=batch)
            lost = run.ledger.named("clips_without_windows", batch=batch)
            run.failed = sum(row["status"] == "error" for row in rows) + sum(row["status"] == "error" for row in lost)
            run.new = sum(row["run_id"] == run.run_id and row["status"] == "ok" for row in rows)
            run.reused = sum(row["status"] == "ok" for row in rows) - run.new
            run.expected = run.new + run.reused + run.failed
            for row in [*lost, *(row for row in rows if row["status"] == "error")]:
                context.log.warning(f"{batch}/{row['name']}: {row['error']}")
            run.metadata |= _pictures(run, rows, lost, values)


def _jobs(run: StageRun, settings: Settings) -> list[CutJob]:
    """Return the files with clips that have no complete window set under the current recipe: a job for each file."""
    recipe, pack = window_recipe(settings), PackRule.of(settings.caption)
    by_path = groupby(run.ledger.named("windows_to_cut", batch=run.batch), key=lambda row: str(row["path"]))
    files = [(path, list(clips)) for path, clips in by_path]
    return [
        CutJob(
            clips=tuple(FileClip(ClipId(str(clip["clip_id"])), frames_of_clip(clip)) for clip in clips),
            location=run.root.uploads / run.batch / path,
            expected_bytes=int(str(clips[0]["bytes"])),
            expected_mtime_ns=int(str(clips[0]["mtime_ns"])),
            window_recipe=recipe.recipe_id,
            window_rule=settings.window,
            pack_rule=pack,
            folder=run.root.frames(run.batch),
            limits=settings.clip,
        )
        for path, clips in files
    ]


def _cut(run: StageRun, jobs: Sequence[CutJob], settings: Settings) -> Iterator[dict[str, list[dict[str, object]]]]:
    for job, result in map_jobs(cut_clip, jobs, settings.decode):
        cuts = not_cut(job, result.reason) if isinstance(result, WorkerFailure) else result
        now = datetime.now(UTC)
        made = [window_rows(cut.clip_id, job.window_recipe, cut, run.run_id, now) for cut in cuts]
        # The clips of a file become visible together, in place of what the file was before.
        yield {"windows": [row for rows, _ in made for row in rows], "window_sets": [manifest for _, manifest in made]}


def _pictures(
    run: StageRun, rows: Sequence[Mapping[str, object]], lost: Sequence[Mapping[str, object]], settings: Settings
) -> dict[str, dg.MetadataValue]:
    columns = (
        "path",
        "clip_start_s",
        "window_index",
        "start_frame",
        "end_frame",
        "start_s",
        "end_s",
        "n_sampled",
        "status",
        "error",
    )
    metadata: dict[str, dg.MetadataValue] = {
        "windows": sample_table(rows, columns),
        "sampled frames per window": histogram([float(str(row["n_sampled"])) for row in rows], "frames"),
    }
    if lost:
        metadata["clips without windows"] = sample_table(lost, ("path", "clip_start_s", "status", "error"))
    collapsed = collapsed_windows(run.ledger, run.batch)
    if collapsed:
        metadata["collapsed windows"] = sample_table(
            collapsed, ("path", "window_index", "duplicate_of", "mode", "distance")
        )
    path = _first_pack(run, rows, settings)
    if path is not None:
        try:
            metadata["frames"] = picture(
                frame_strip(read_pack(path)), "image/jpeg", f"{rows[0]['name']}, its first window"
            )
        except (OSError, ValueError) as fault:  # a damaged pack is made again by whoever needs it, a picture does not
            run.log.warning(f"{path.name}: no picture of its frames: {fault}")
    return metadata


def _first_pack(run: StageRun, rows: Sequence[Mapping[str, object]], settings: Settings) -> Path | None:
    """Return the packed frames of the first window, in whatever batch a run left them."""
    if not rows:
        return None
    window, clip = str(rows[0]["window_id"]), rows[0]["clip_id"]
    files = run.ledger.named("batch_clip_files", batch=run.batch)
    batches = [run.batch, *(str(file["batch"]) for file in files if file["clip_id"] == clip)]
    pack = PackRule.of(settings.caption).pack_id
    paths = (pack_path(run.root.frames(batch), window, pack) for batch in batches)
    return next((path for path in paths if path.is_file()), None)
