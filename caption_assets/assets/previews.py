"""previews: a small moving picture of each window and a still one, made from the packed frames."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg

from caption_assets.assets.windows import windows
from caption_assets.ids import ClipId, RecipeId, WindowId
from caption_assets.orchestration.declare import video_batch_asset
from caption_assets.orchestration.metadata import MAX_PICTURE_BYTES, picture, sample_table
from caption_assets.orchestration.resources import RootResource, SettingsResource
from caption_assets.orchestration.stage import stage
from caption_assets.pipeline.frames import ensure_frames, places_of_clips
from caption_assets.pipeline.stage_run import StageRun, recipe_rows
from caption_assets.settings import Settings
from caption_assets.settings.recipes import packed_preview_recipe, preview_recipe, previews_decode_again
from caption_assets.video.frame_store import ClipFile, ClipPlace, find_file
from caption_assets.video.preview_format import FORMATS, format_of
from caption_assets.video.preview_job import (
    ClipPreviewJob,
    MadePreview,
    PreviewJob,
    ShownWindow,
    all_failed,
    write_clip_previews,
    write_preview,
)
from caption_assets.video.workers import WorkerFailure, map_jobs

Row = Mapping[str, Any]
Results = Iterator[dict[str, list[dict[str, object]]]]

CLIP_GONE = "no file of the clip is in uploads/ any more"


@video_batch_asset(kinds={"ffmpeg"}, table="previews", code_kind="preview", deps=[windows])
def previews(context: dg.AssetExecutionContext, root: RootResource, settings: SettingsResource) -> None:
    """A small moving picture of each window for people to look at, never upscaled, and a still one for lists.

    Made from the packed frames, so nothing is decoded, unless more pictures a second are wanted than were sampled and
    `preview.preview_source` is `clip`. A preview whose file was deleted is made again.
    """
    values = settings.values()
    for batch in context.partition_keys:
        with stage(context, root, "previews", batch, "preview") as run:
            making = _Making(run, values)
            run.activate(preview_recipe(values))
            missing = [row for row in run.ledger.named("batch_previews", batch=batch) if not making.is_there(row)]
            run.commit_as_they_come(making.make(missing), len(missing))
            rows = run.ledger.named("batch_previews", batch=batch)
            making.remove_leftovers(rows)
            wanted = {row["window_id"] for row in missing}
            run.expected = len(rows)
            run.failed = sum(row["status"] != "ok" for row in rows)
            run.new = sum(row["window_id"] in wanted and row["status"] == "ok" for row in rows)
            run.reused = run.expected - run.new - run.failed
            run.metadata |= _pictures(run, rows)


class _Making:
    """The previews of one batch under one recipe."""

    def __init__(self, run: StageRun, settings: Settings) -> None:
        self._run, self._settings = run, settings
        self._rule = settings.preview
        self._folder = run.root.previews(run.batch)
        self._recipe = preview_recipe(settings).recipe_id
        self._packed_recipe = packed_preview_recipe(settings)
        self._from_clips = previews_decode_again(settings)
        self._places = places_of_clips(run.ledger, run.batch) if self._from_clips else {}

    def is_there(self, row: Row) -> bool:
        """Tell whether the window's newest preview is of this recipe and its files still lie there.

        Without the clip, packed frames are the best there is: they are not taken again and again.
        """
        if row["status"] != "ok":
            return False
        best = row["preview_recipe_id"] == self._recipe or (
            row["preview_recipe_id"] == self._packed_recipe.recipe_id and self._file_of(row) is None
        )
        return best and all(
            uri is not None and _size(self._run.root.path / str(uri)) == size
            for uri, size in ((row["uri"], row["bytes"]), (row["poster_uri"], row["poster_bytes"]))
        )

    def make(self, rows: Sequence[Row]) -> Results:
        """Make the previews of `rows`; yield what is to be recorded, a window at a time."""
        if not self._from_clips:
            yield from self._make_from_packed(rows, {})
            return
        lost: dict[str, str] = {}
        yield from self._make_from_clips(rows, lost)
        if lost:
            # A preview says what made it: here that is the other recipe, so the clip is tried again when it is there.
            made_by = recipe_rows(self._packed_recipe, self._run.batch, "", self._run.run_id)
            self._run.commit({"recipes": made_by["recipes"]})
            yield from self._make_from_packed([row for row in rows if row["window_id"] in lost], lost)

    def remove_leftovers(self, rows: Sequence[Row]) -> None:
        """Remove previews of another format than the one now shown from the folder, and what a killed run left.

        Called when the new ones are committed. Another batch that showed such a file shows the new one by then, until
        its own next run.
        """
        shown = {Path(str(row["uri"])) for row in rows if row["uri"] is not None}
        kept = {path.stem: path.name for path in shown if self._run.root.path / path.parent == self._folder}
        suffixes = {found.suffix for found in FORMATS.values()}
        for path in self._folder.iterdir() if self._folder.is_dir() else ():
            replaced = path.suffix in suffixes and kept.get(path.stem, path.name) != path.name
            if replaced or (path.name.startswith(".") and path.suffix == ".tmp"):
                path.unlink(missing_ok=True)

    def _make_from_packed(self, rows: Sequence[Row], warnings: Mapping[str, str]) -> Results:
        run, settings = self._run, self._settings
        recipe = self._packed_recipe.recipe_id
        there, lost = ensure_frames(run.root, run.ledger, run.batch, rows, settings)
        for window, reason in lost.items():
            yield self._recorded(window, recipe, MadePreview(problem=reason))
        jobs = [
            self._job(row, there[window], warnings.get(window))
            for row in rows
            if (window := WindowId(str(row["window_id"]))) in there
        ]
        for job, result in map_jobs(write_preview, jobs, settings.decode):
            made = MadePreview(problem=result.reason) if isinstance(result, WorkerFailure) else result
            yield self._recorded(job.window_id, recipe, made)

    def _make_from_clips(self, rows: Sequence[Row], lost: dict[str, str]) -> Results:
        """Decode each file once for its windows in `rows`. What cannot be had is added to `lost`, with a warning."""
        jobs: list[ClipPreviewJob] = []
        by_source: dict[ClipId, list[Row]] = {}
        for row in rows:
            by_source.setdefault(self._place_of(row).source, []).append(row)
        for members in by_source.values():
            file = self._file_of(members[0])
            if file is None:
                lost.update({row["window_id"]: _instead(CLIP_GONE) for row in members})
            else:
                jobs.append(self._clip_job(file, members))
        for job, result in map_jobs(write_clip_previews, jobs, self._settings.decode):
            every = all_failed(job, result.reason) if isinstance(result, WorkerFailure) else result
            for window, made in zip(job.windows, every.windows, strict=True):
                if made.problem is None:
                    yield self._recorded(window.window_id, self._recipe, made)
                else:
                    lost[window.window_id] = _instead(made.problem)

    def _file_of(self, row: Row) -> ClipFile | None:
        return find_file(self._run.root, self._place_of(row).files)

    def _place_of(self, row: Row) -> ClipPlace:
        return self._places.get(row["clip_id"], ClipPlace(row["clip_id"]))

    def _job(self, row: Row, pack: Path, warning: str | None) -> PreviewJob:
        return PreviewJob(
            window_id=row["window_id"],
            pack=pack,
            folder=self._folder,
            start_s=row["start_s"],
            end_s=row["end_s"],
            rule=self._rule,
            source_fps=row["fps"],
            source_width=row["display_width"],
            source_height=row["display_height"],
            warnings=(warning,) if warning else (),
        )

    def _clip_job(self, file: ClipFile, rows: Sequence[Row]) -> ClipPreviewJob:
        names = ("window_id", "start_frame", "end_frame", "start_s", "end_s")
        return ClipPreviewJob(
            clip_id=self._place_of(rows[0]).source,
            location=self._run.root.uploads / file.batch / file.path,
            expected_bytes=file.bytes,
            expected_mtime_ns=file.mtime_ns,
            windows=tuple(
                ShownWindow(clip_start_frame=self._place_of(row).first_frame, **{name: row[name] for name in names})
                for row in rows
            ),
            folder=self._folder,
            rule=self._rule,
            limits=self._settings.clip,
        )

    def _recorded(self, window: WindowId, recipe: RecipeId, made: MadePreview) -> dict[str, list[dict[str, object]]]:
        files: dict[str, object] = {}
        if made.problem is None:
            files = {
                "uri": self._run.root.relative(self._folder / made.name),
                "sha256": made.sha256,
                "bytes": made.bytes,
                "width": made.width,
                "height": made.height,
                "n_frames": made.n_frames,
                "poster_uri": self._run.root.relative(self._folder / made.poster_name),
                "poster_sha256": made.poster_sha256,
                "poster_bytes": made.poster_bytes,
            }
        row: dict[str, object] = {
            "window_id": window,
            "recipe_id": recipe,
            **files,
            "warnings": list(made.warnings),
            "status": "ok" if made.problem is None else "error",
            "error": made.problem,
            "run_id": self._run.run_id,
            "created_at": datetime.now(UTC),
        }
        return {"previews": [row]}


def _instead(reason: str) -> str:
    return f"made from the packed frames: {reason}"


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _pictures(run: StageRun, rows: Sequence[Row]) -> dict[str, dg.MetadataValue]:
    columns = ("path", "window_index", "uri", "bytes", "width", "height", "n_frames", "status", "error", "warnings")
    told = [{**row, "warnings": "; ".join(row["warnings"] or ())} for row in rows]
    metadata: dict[str, dg.MetadataValue] = {"previews": sample_table(told, columns)}
    for row in rows:
        shown = _as_picture(run, row) if row["status"] == "ok" else None
        if shown is not None:
            metadata["a preview"] = picture(*shown, f"{row['path']}, window {row['window_index']}")
            break
    return metadata


def _as_picture(run: StageRun, row: Row) -> tuple[bytes, str] | None:
    """Return a preview's bytes and media type, or its poster's where the preview is a video, if it is small enough."""
    form = format_of(str(row["uri"]))
    moves = form is not None and form.media_type.startswith("image/")
    uri, size = (row["uri"], row["bytes"]) if moves else (row["poster_uri"], row["poster_bytes"])
    if uri is None or size is None or int(size) > MAX_PICTURE_BYTES:
        return None
    return (run.root.path / str(uri)).read_bytes(), form.media_type if form and moves else "image/jpeg"
