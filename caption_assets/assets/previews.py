"""previews: a small animation of each window and a still poster, made from the packed frames."""

from collections.abc import Sequence

import dagster as dg

from caption_assets.assets.windows import windows
from caption_assets.orchestration.declare import video_batch_asset
from caption_assets.orchestration.metadata import MAX_PICTURE_BYTES, picture, sample_table
from caption_assets.orchestration.resources import RootResource, SettingsResource
from caption_assets.orchestration.stage import stage
from caption_assets.pipeline.previews import Row, is_missing, make_previews
from caption_assets.pipeline.stage_run import StageRun
from caption_assets.settings.recipes import preview_recipe
from caption_assets.video.previews import remove_leftovers


@video_batch_asset(kinds={"ffmpeg"}, table="previews", code_kind="preview", deps=[windows])
def previews(context: dg.AssetExecutionContext, root: RootResource, settings: SettingsResource) -> None:
    """A small animation of each window for people to look at (WebP, never upscaled), and a still poster for lists.

    Both are made from the packed frames, so nothing is decoded. A preview whose file was deleted is made again.
    """
    values = settings.values()
    recipe = preview_recipe(values)
    for batch in context.partition_keys:
        with stage(context, root, "previews", batch, "preview") as run:
            run.activate(recipe)
            rows = run.ledger.named("batch_previews", batch=batch)
            missing = [row for row in rows if is_missing(row, recipe.recipe_id, run.root.path)]
            results = make_previews(run.root, run.ledger, batch, missing, values, run.run_id)
            run.commit_as_they_come(results, len(missing))
            remove_leftovers(run.root.previews(batch))
            rows = run.ledger.named("batch_previews", batch=batch)
            made = {row["window_id"] for row in missing}
            run.expected = len(rows)
            run.failed = sum(row["status"] != "ok" for row in rows)
            run.new = sum(row["status"] == "ok" and row["window_id"] in made for row in rows)
            run.reused = run.expected - run.new - run.failed
            run.metadata |= _pictures(run, rows)


def _pictures(run: StageRun, rows: Sequence[Row]) -> dict[str, dg.MetadataValue]:
    columns = ("path", "window_index", "uri", "bytes", "width", "height", "n_frames", "status", "error", "warnings")
    told = [{**row, "warnings": "; ".join(row["warnings"] or ())} for row in rows]
    metadata: dict[str, dg.MetadataValue] = {"previews": sample_table(told, columns)}
    shown = next((row for row in rows if row["status"] == "ok" and row["bytes"] <= MAX_PICTURE_BYTES), None)
    if shown is not None:
        data = (run.root.path / str(shown["uri"])).read_bytes()
        metadata["a preview"] = picture(data, "image/webp", f"{shown['path']}, window {shown['window_index']}")
    return metadata
