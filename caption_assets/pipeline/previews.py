"""Which previews of a batch are missing, and making them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any

from caption_assets.ids import RecipeId, WindowId
from caption_assets.ledger.database import Ledger
from caption_assets.pipeline.frames import ensure_frames
from caption_assets.root import RootFolder
from caption_assets.settings import Settings
from caption_assets.settings.recipes import preview_recipe
from caption_assets.video.previews import POSTER_SUFFIX, PREVIEW_SUFFIX, PreviewFiles, PreviewJob, write_preview
from caption_assets.video.workers import WorkerFailure, map_jobs

Row = Mapping[str, Any]


def is_missing(row: Row, recipe: RecipeId, root: Path) -> bool:
    """Tell whether a window needs a new preview: it has none of this recipe, or a file of it was deleted or cut.

    row: of the query `batch_previews`.
    """
    if row["status"] != "ok" or row["preview_recipe_id"] != recipe:
        return True
    sizes = {row["uri"]: row["bytes"], row["poster_uri"]: row["poster_bytes"]}
    return any(_size(root / str(uri)) != size for uri, size in sizes.items())


def make_previews(
    root: RootFolder, ledger: Ledger, batch: str, rows: Sequence[Row], settings: Settings, run_id: str
) -> Iterator[dict[str, list[dict[str, object]]]]:
    """Make the preview of each window in `rows`; yield the ledger rows of each, per table, as it is finished.

    Packed frames that were deleted are made again from the clip. A window whose preview cannot be made gets a row that
    says why.
    """
    recipe, folder = preview_recipe(settings).recipe_id, root.previews(batch)
    packs, lost = ensure_frames(root, ledger, batch, rows, settings)
    made = _write_all([row for row in rows if row["window_id"] in packs], packs, folder, settings)
    for window, files in chain(lost.items(), made):
        row: dict[str, object] = {"window_id": window, "recipe_id": recipe}
        if isinstance(files, str):
            row |= {"warnings": [], "status": "error", "error": files}
        else:
            path = root.relative(folder / window)
            row |= {"uri": path + PREVIEW_SUFFIX, "poster_uri": path + POSTER_SUFFIX, "status": "ok"}
            row |= asdict(files) | {"warnings": list(files.warnings)}
        yield {"previews": [row | {"run_id": run_id, "created_at": datetime.now(UTC)}]}


def _write_all(
    rows: Sequence[Row], packs: Mapping[WindowId, Path], folder: Path, settings: Settings
) -> Iterator[tuple[WindowId, PreviewFiles | str]]:
    """Write the preview of each window in worker processes; yield what was written, or why nothing was."""
    jobs = [
        PreviewJob(
            window_id=row["window_id"],
            pack=packs[row["window_id"]],
            folder=folder,
            start_s=row["start_s"],
            end_s=row["end_s"],
            rule=settings.preview,
            source_fps=row["fps"],
            source_width=row["display_width"],
            source_height=row["display_height"],
        )
        for row in rows
    ]
    for job, result in map_jobs(write_preview, jobs, settings.decode):
        yield job.window_id, result.reason if isinstance(result, WorkerFailure) else result


def _size(path: Path) -> int:
    """Return the bytes of a file; -1 where it is gone."""
    try:
        return path.stat().st_size
    except OSError:
        return -1
