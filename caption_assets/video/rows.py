"""From a cut clip to its rows: one manifest row in `window_sets`, one row per window in `windows`."""

from datetime import datetime

from caption_assets import ids
from caption_assets.ids import ClipId, RecipeId
from caption_assets.video.cutting import Cut
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
