"""From a cut clip to its rows, one in `window_sets` and one per window in `windows`; and what those say of pictures."""

from dataclasses import asdict, dataclass
from datetime import datetime

from caption_assets import ids
from caption_assets.ids import ClipId, RecipeId, WindowId
from caption_assets.ledger.schema import WindowRow, WindowSetRow
from caption_assets.video.duplicates import SeenWindow
from caption_assets.video.fingerprint import WindowPrint
from caption_assets.video.window_job import Cut
from caption_assets.video.windowing import MIN_WINDOW_FRAMES


def window_rows(
    clip: ClipId, recipe: RecipeId, cut: Cut, run_id: str, now: datetime
) -> tuple[list[WindowRow], WindowSetRow]:
    """Return the rows of the windows and the manifest row of the clip, which is there for 0 windows too."""
    windows = [
        WindowRow(
            window_id=window.window_id,
            clip_id=clip,
            recipe_id=recipe,
            window_index=window.index,
            start_frame=window.outcome.window.start_frame,
            end_frame=window.outcome.window.end_frame,
            start_s=window.outcome.window.start_s,
            end_s=window.outcome.window.end_s,
            frame_indices=list(window.outcome.window.frame_indices),
            frame_times_s=list(window.outcome.window.frame_times_s),
            **(asdict(window.outcome.seen) if window.outcome.seen else {}),
            status=window.outcome.status,
            error=window.outcome.error,
            run_id=run_id,
            created_at=now,
        )
        for window in cut.windows
    ]
    status, error = "ok", cut.problem
    if cut.problem is not None:
        status = "error"
    elif not windows:
        status, error = "too_short", f"the clip has {cut.n_frames} frames; a window needs {MIN_WINDOW_FRAMES}"
    manifest = WindowSetRow(
        clip_id=clip,
        recipe_id=recipe,
        n_windows=len(windows),
        window_ids_sha256=ids.digest(*(window.window_id for window in cut.windows)),
        status=status,
        error=error,
        run_id=run_id,
        created_at=now,
    )
    return windows, manifest


@dataclass(frozen=True, slots=True)
class WindowPictures:
    """What the ledger knows of a window's pictures."""

    clip_id: str
    window_id: str
    start_frame: int
    start_s: float
    end_s: float
    frame_times_s: list[float]
    frame_hashes: list[int] | None
    luma_low: list[int] | None
    luma_high: list[int] | None
    color: str | None
    frames_digest: str | None

    @property
    def seen(self) -> SeenWindow:
        """The window as it is compared with others. Windows that early versions cut have no fingerprint."""
        known = None
        if None not in (self.frame_hashes, self.luma_low, self.luma_high, self.color, self.frames_digest):
            known = WindowPrint(
                frame_hashes=tuple(self.frame_hashes or ()),
                luma_low=tuple(self.luma_low or ()),
                luma_high=tuple(self.luma_high or ()),
                color=self.color or "",
                frames_digest=self.frames_digest or "",
            )
        return SeenWindow(WindowId(self.window_id), self.start_s, self.end_s, tuple(self.frame_times_s), known)
