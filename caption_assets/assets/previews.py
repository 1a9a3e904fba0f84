"""previews: an animated WebP of each window, made from the packed frames."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg

from caption_assets.assets.windows import windows
from caption_assets.ids import RecipeId, WindowId
from caption_assets.orchestration.declare import video_batch_asset
from caption_assets.orchestration.frames import ensure_frames
from caption_assets.orchestration.pictures import MAX_PICTURE_BYTES, picture, sample_table
from caption_assets.orchestration.resources import RootResource, SettingsResource
from caption_assets.orchestration.stage import StageRun, stage
from caption_assets.recipes import preview_recipe
from caption_assets.settings import Settings
from caption_assets.video.limits import worker_count, worker_memory_bytes
from caption_assets.video.preview import PreviewRule
from caption_assets.video.preview_job import MadePreview, PreviewJob, write_preview
from caption_assets.video.workers import WorkerFailure, map_clips

Row = Mapping[str, Any]


@video_batch_asset(kinds={"ffmpeg"}, table="previews", code_kind="preview", deps=[windows])
def previews(context: dg.AssetExecutionContext, root: RootResource, settings: SettingsResource) -> None:
    """An animated WebP of each window for people to look at: small, endless, never upscaled.

    Made from the packed frames, so nothing is decoded. A preview whose file was deleted is made again.
    """
    values = settings.values()
    for batch in context.partition_keys:
        with stage(context, root, "previews", batch, "preview") as run:
            recipe = preview_recipe(values)
            run.activate(recipe)
            missing = [
                row
                for row in run.ledger.named("batch_previews", batch=batch)
                if not _is_there(run, row, recipe.recipe_id)
            ]
            run.commit_as_they_come(_make(run, missing, values, recipe.recipe_id), len(missing))
            rows = run.ledger.named("batch_previews", batch=batch)
            wanted = {row["window_id"] for row in missing}
            run.expected = len(rows)
            run.failed = sum(row["status"] != "ok" for row in rows)
            run.new = sum(row["window_id"] in wanted and row["status"] == "ok" for row in rows)
            run.reused = run.expected - run.new - run.failed
            run.metadata |= _pictures(run, rows)


def _is_there(run: StageRun, row: Row, recipe: RecipeId) -> bool:
    """Tell whether the window's newest preview is of this recipe and its file still lies there."""
    made = row["status"] == "ok" and row["preview_recipe_id"] == recipe
    return made and (run.root.path / str(row["uri"])).is_file()


def _make(
    run: StageRun, rows: Sequence[Row], settings: Settings, recipe: RecipeId
) -> Iterator[dict[str, list[dict[str, object]]]]:
    there, lost = ensure_frames(run.root, run.ledger, run.batch, rows, settings)
    for window, reason in lost.items():
        yield {"previews": [_row(run, window, recipe, MadePreview(problem=reason), None)]}
    rule = PreviewRule(settings.target_fps, settings.target_height, settings.quality, settings.compression_level)
    jobs = [_job(run, row, there[window], rule) for row in rows if (window := WindowId(str(row["window_id"]))) in there]
    results = map_clips(
        write_preview,
        jobs,
        workers=worker_count(settings, len(jobs)),
        timeout_s=settings.clip_timeout_s,
        memory_bytes=worker_memory_bytes(settings),
    )
    for job, result in results:
        made = MadePreview(problem=result.reason) if isinstance(result, WorkerFailure) else result
        uri = None if made.problem else run.root.relative(job.target)
        yield {"previews": [_row(run, job.window_id, recipe, made, uri)]}


def _job(run: StageRun, row: Row, pack: Path, rule: PreviewRule) -> PreviewJob:
    return PreviewJob(
        window_id=row["window_id"],
        pack=pack,
        target=run.root.previews(run.batch) / f"{row['window_id']}.webp",
        start_s=row["start_s"],
        end_s=row["end_s"],
        rule=rule,
        source_fps=row["fps"],
        source_width=row["display_width"],
        source_height=row["display_height"],
    )


def _row(run: StageRun, window: WindowId, recipe: RecipeId, made: MadePreview, uri: str | None) -> dict[str, object]:
    failed = made.problem is not None
    return {
        "window_id": window,
        "recipe_id": recipe,
        "uri": uri,
        "sha256": None if failed else made.sha256,
        "bytes": None if failed else made.bytes,
        "width": None if failed else made.width,
        "height": None if failed else made.height,
        "n_frames": None if failed else made.n_frames,
        "warnings": list(made.warnings),
        "status": "error" if failed else "ok",
        "error": made.problem,
        "run_id": run.run_id,
        "created_at": datetime.now(UTC),
    }


def _pictures(run: StageRun, rows: Sequence[Row]) -> dict[str, dg.MetadataValue]:
    columns = ("path", "window_index", "uri", "bytes", "width", "height", "n_frames", "status", "error")
    metadata: dict[str, dg.MetadataValue] = {"previews": sample_table(rows, columns)}
    small = (row for row in rows if row["status"] == "ok" and int(str(row["bytes"])) <= MAX_PICTURE_BYTES)
    shown = next(small, None)
    if shown is not None:
        data = (run.root.path / str(shown["uri"])).read_bytes()
        metadata["a preview"] = picture(data, "image/webp", f"{shown['path']}, window {shown['window_index']}")
    return metadata
