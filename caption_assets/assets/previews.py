"""previews: a small animation of each window and a still poster, made from the packed frames."""

from collections.abc import Sequence
from dataclasses import asdict

import dagster as dg

from caption_assets.assets.windows import windows
from caption_assets.orchestration.declare import video_batch_asset
from caption_assets.orchestration.metadata import MAX_PICTURE_BYTES, picture, sample_table
from caption_assets.orchestration.resources import RootResource, SettingsResource
from caption_assets.orchestration.stage import stage
from caption_assets.pipeline.previews import PreviewedWindow, is_missing, make_previews, read_previewed
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
            shown = run.ledger.read(read_previewed, batch)
            missing = [window for window in shown if is_missing(window, recipe.recipe_id, run.root.path)]
            results = make_previews(run.root, run.ledger, batch, missing, values, run.run_id)
            run.commit_as_they_come(results, len(missing))
            remove_leftovers(run.root.previews(batch))
            if missing:
                shown = run.ledger.read(read_previewed, batch)
            made = {window.row.window_id for window in missing}
            run.expected = len(shown)
            run.failed = sum(not window.is_ok for window in shown)
            run.new = sum(window.is_ok and window.row.window_id in made for window in shown)
            run.reused = run.expected - run.new - run.failed
            run.metadata |= _pictures(run, shown)


def _pictures(run: StageRun, windows: Sequence[PreviewedWindow]) -> dict[str, dg.MetadataValue]:
    columns = ("clip_path", "window_index", "uri", "bytes", "width", "height", "n_frames", "status", "error",
               "warnings")  # fmt: skip
    rows = [
        {
            "clip_path": each.row.clip_path,
            "window_index": each.row.window_index,
            **asdict(each.preview),
            "warnings": "; ".join(each.preview.warnings),
        }
        for each in windows
        if each.preview is not None
    ]
    metadata: dict[str, dg.MetadataValue] = {"previews": sample_table(rows, columns)}
    for each in windows:
        preview = each.preview
        if preview is not None and preview.status == "ok" and (preview.bytes or 0) <= MAX_PICTURE_BYTES:
            data = (run.root.path / str(preview.uri)).read_bytes()
            name = f"{each.row.clip_path}, window {each.row.window_index}"
            metadata["a preview"] = picture(data, "image/webp", name)
            break
    return metadata
