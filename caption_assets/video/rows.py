"""From a cut clip to its rows, one in `window_sets` and one per window in `windows`; and what those say of pictures."""

from collections.abc import Mapping
from dataclasses import asdict, fields
from datetime import datetime
from typing import Any

from caption_assets import ids
from caption_assets.ids import ClipId, RecipeId, WindowId
from caption_assets.video.duplicates import SeenWindow
from caption_assets.video.fingerprint import WindowPrint
from caption_assets.video.window_job import Cut
from caption_assets.video.windowing import MIN_WINDOW_FRAMES


def window_rows(
    clip: ClipId, recipe: RecipeId, cut: Cut, run_id: str, now: datetime
) -> tuple[list[dict[str, object]], dict[str, object]]:
    """Return the rows of the windows and the manifest row of the clip, which is there for 0 windows too."""
    made = {"clip_id": clip, "recipe_id": recipe, "run_id": run_id, "created_at": now}
    windows = [
        {
            **made,
            "window_id": window.window_id,
            "window_index": window.index,
            "start_frame": window.outcome.window.start_frame,
            "end_frame": window.outcome.window.end_frame,
            "start_s": window.outcome.window.start_s,
            "end_s": window.outcome.window.end_s,
            "frame_indices": list(window.outcome.window.frame_indices),
            "frame_times_s": list(window.outcome.window.frame_times_s),
            **(asdict(window.outcome.seen) if window.outcome.seen else {}),
            "status": window.outcome.status,
            "error": window.outcome.error,
        }
        for window in cut.windows
    ]
    status, error = "ok", cut.problem
    if cut.problem is not None:
        status = "error"
    elif not windows:
        status, error = "too_short", f"the clip has {cut.n_frames} frames; a window needs {MIN_WINDOW_FRAMES}"
    manifest = {
        **made,
        "n_windows": len(windows),
        "window_ids_sha256": ids.digest(*(window.window_id for window in cut.windows)),
        "status": status,
        "error": error,
    }
    return windows, manifest


def seen_window(row: Mapping[str, Any]) -> SeenWindow:
    """Return a row of `windows` as it is compared with others. Rows of versions before the prints have none."""
    values: dict[str, Any] = {field.name: row[field.name] for field in fields(WindowPrint)}
    known = all(value is not None for value in values.values())
    values |= {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
    return SeenWindow(
        window_id=WindowId(row["window_id"]),
        start_s=row["start_s"],
        end_s=row["end_s"],
        times_s=tuple(row["frame_times_s"]),
        seen=WindowPrint(**values) if known else None,
    )
