"""Cutting one clip into windows and packing their frames, in a worker process: the only decode in the whole graph."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from caption_assets import ids
from caption_assets.ids import ClipId, RecipeId, WindowId
from caption_assets.video.pack import PackOutcome, PackRule, PlannedWindow, WindowRule, pack_windows, plan_clip
from caption_assets.video.probe import ProbeLimits, UnreadableVideo, probe_clip


@dataclass(frozen=True)
class CutJob:
    """A clip to cut.

    only: pack these windows and no others (packed frames that were deleted); None packs all.
    expected_bytes, expected_mtime_ns: what was registered; a file that changed since is refused.
    """

    clip_id: ClipId
    location: Path
    expected_bytes: int
    expected_mtime_ns: int
    window_recipe: RecipeId
    window_rule: WindowRule
    pack_rule: PackRule
    folder: Path
    limits: ProbeLimits
    only: frozenset[WindowId] | None = None


@dataclass(frozen=True)
class CutWindow:
    """A window of the clip with its identity and how packing went."""

    window_id: WindowId
    index: int
    outcome: PackOutcome


@dataclass(frozen=True)
class Cut:
    """What became of a clip: its windows in order, or why it could not be cut. n_frames counts the clip's frames."""

    n_frames: int
    windows: tuple[CutWindow, ...]
    problem: str | None = None


def cut_clip(job: CutJob) -> Cut:
    """Probe, plan and pack one clip with one decode.

    A clip that cannot be read any more is a result with `problem` set; other windows and clips are unharmed.
    """
    try:
        status = job.location.stat()
        if (status.st_size, status.st_mtime_ns) != (job.expected_bytes, job.expected_mtime_ns):
            return Cut(0, (), "the file has changed since it was registered; run raw_clips again")
        facts = probe_clip(job.location, job.limits)
    except FileNotFoundError:
        return Cut(0, (), "the file is not in uploads/ any more; put it back and run the batch again")
    except (UnreadableVideo, OSError) as fault:
        return Cut(0, (), str(fault))
    planned = [(_identify(job, window), window) for window in plan_clip(facts, job.window_rule)]
    wanted = [(wid, window) for wid, window in planned if job.only is None or wid in job.only]
    outcomes = pack_windows(job.location, facts, wanted, job.pack_rule, job.folder, job.limits)
    return Cut(facts.n_frames, _numbered(planned, wanted, outcomes))


def _identify(job: CutJob, window: PlannedWindow) -> WindowId:
    return ids.window_id(job.clip_id, window.start_frame, window.end_frame, job.window_recipe)


def _numbered(
    planned: Sequence[tuple[WindowId, PlannedWindow]],
    wanted: Sequence[tuple[WindowId, PlannedWindow]],
    outcomes: Sequence[PackOutcome],
) -> tuple[CutWindow, ...]:
    index_of = {window_id: index for index, (window_id, _) in enumerate(planned)}
    pairs = zip(wanted, outcomes, strict=True)
    return tuple(CutWindow(window_id, index_of[window_id], outcome) for (window_id, _), outcome in pairs)
