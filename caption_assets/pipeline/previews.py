"""Which previews of a batch are missing, and making them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

from caption_assets.ids import RecipeId, WindowId
from caption_assets.ledger import upkeep
from caption_assets.ledger.captions import group, shown_preview
from caption_assets.ledger.database import Ledger
from caption_assets.ledger.schema import CaptionRow, PreviewRow
from caption_assets.ledger.store import Session
from caption_assets.pipeline.caption_work import WINDOWS_OF_BATCH
from caption_assets.pipeline.frames import ensure_frames, read_frame_sources
from caption_assets.root import RootFolder
from caption_assets.settings import Settings
from caption_assets.settings.recipes import preview_recipe
from caption_assets.video.previews import POSTER_SUFFIX, PREVIEW_SUFFIX, PreviewFiles, PreviewJob, write_preview
from caption_assets.video.workers import WorkerFailure, map_jobs


@dataclass(frozen=True, slots=True)
class ClipLook:
    """The size and rate of a clip."""

    clip_id: str
    fps: float
    display_width: int
    display_height: int
    created_at: datetime


@dataclass(frozen=True)
class PreviewedWindow:
    """A window that a batch shows, its clip, and its preview; None where none has been tried."""

    row: CaptionRow
    clip: ClipLook
    preview: PreviewRow | None

    @property
    def is_ok(self) -> bool:
        """There is a preview."""
        return self.preview is not None and self.preview.status == "ok"


def read_previewed(session: Session, batch: str) -> list[PreviewedWindow]:
    """Return the whole windows of a batch with their previews, in reading order."""
    rows = [row for row in upkeep.batch_rows(session, batch) if row.status != "window_error"]
    recipe = upkeep.current_recipes(session, batch).get("preview")
    previews = session.select(PreviewRow, f"previews WHERE window_id IN ({WINDOWS_OF_BATCH})", batch=batch)
    of_window = group(previews, lambda preview: preview.window_id)
    source = "clips WHERE clip_id IN (SELECT clip_id FROM captions WHERE batch = $batch) ORDER BY created_at"
    clips = {clip.clip_id: clip for clip in session.select(ClipLook, source, batch=batch)}
    current = recipe.recipe_id if recipe else None
    return [
        PreviewedWindow(row, clips[row.clip_id], shown_preview(of_window.get(row.window_id, ()), current))
        for row in rows
    ]


def is_missing(window: PreviewedWindow, recipe: RecipeId, root: Path) -> bool:
    """Tell whether a window needs a new preview: it has none of this recipe, or a file of it was deleted or cut."""
    preview = window.preview
    if preview is None or preview.status != "ok" or preview.recipe_id != recipe:
        return True
    sizes = {preview.uri: preview.bytes, preview.poster_uri: preview.poster_bytes}
    return any(_size(root / str(uri)) != size for uri, size in sizes.items())


def make_previews(
    root: RootFolder, ledger: Ledger, batch: str, windows: Sequence[PreviewedWindow], settings: Settings, run_id: str
) -> Iterator[list[PreviewRow]]:
    """Make the preview of each window; yield its row as it is finished.

    Packed frames that were deleted are made again from the clip. A window whose preview cannot be made gets a row that
    says why.
    """
    if not windows:
        return
    recipe, folder = preview_recipe(settings).recipe_id, root.previews(batch)
    sources = ledger.read(read_frame_sources, batch, [window.row for window in windows])
    packs, lost = ensure_frames(root, batch, sources, settings)
    made = _write_all([window for window in windows if window.row.window_id in packs], packs, folder, settings)
    for window, files in chain(lost.items(), made):
        now = datetime.now(UTC)
        if isinstance(files, str):
            yield [
                PreviewRow(
                    window_id=window, recipe_id=recipe, warnings=[], status="error", error=files, run_id=run_id,
                    created_at=now,
                )
            ]  # fmt: skip
        else:
            path = root.relative(folder / window)
            yield [
                PreviewRow(
                    window_id=window,
                    recipe_id=recipe,
                    uri=path + PREVIEW_SUFFIX,
                    poster_uri=path + POSTER_SUFFIX,
                    **asdict(files) | {"warnings": list(files.warnings)},
                    status="ok",
                    run_id=run_id,
                    created_at=now,
                )
            ]


def _write_all(
    windows: Sequence[PreviewedWindow], packs: Mapping[WindowId, Path], folder: Path, settings: Settings
) -> Iterator[tuple[WindowId, PreviewFiles | str]]:
    """Write the preview of each window in worker processes; yield what was written, or why nothing was."""
    jobs = [
        PreviewJob(
            window_id=(name := WindowId(window.row.window_id)),
            pack=packs[name],
            folder=folder,
            start_s=window.row.start_s,
            end_s=window.row.end_s,
            rule=settings.preview,
            source_fps=window.clip.fps,
            source_width=window.clip.display_width,
            source_height=window.clip.display_height,
        )
        for window in windows
    ]
    for job, result in map_jobs(write_preview, jobs, settings.decode):
        yield job.window_id, result.reason if isinstance(result, WorkerFailure) else result


def _size(path: Path) -> int:
    """Return the bytes of a file; -1 where it is gone."""
    try:
        return path.stat().st_size
    except OSError:
        return -1
