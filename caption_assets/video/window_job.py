"""Cutting a file into windows and packing their frames, in a worker process: the only decode of captioned frames."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from caption_assets import ids
from caption_assets.ids import ClipId, RecipeId, WindowId
from caption_assets.settings.groups import ClipSettings, WindowSettings
from caption_assets.video.pack import PackOutcome, PackRule, PlannedWindow, pack_windows, plan_clip
from caption_assets.video.probe import ClipFacts, UnreadableVideo, probe_clip
from caption_assets.video.windowing import FrameRange


@dataclass(frozen=True)
class FileClip:
    """A clip of a file: the frames that are its own, counted from the file's first; None where it is the whole file."""

    clip_id: ClipId
    frames: FrameRange | None = None


@dataclass(frozen=True)
class CutJob:
    """A file to cut, and the clips in it: all of them with one decode.

    only: pack these windows and no others (packed frames that were deleted); None packs all.
    expected_bytes, expected_mtime_ns: what was registered; a file that changed since is refused.
    """

    clips: tuple[FileClip, ...]
    location: Path
    expected_bytes: int
    expected_mtime_ns: int
    window_recipe: RecipeId
    window_rule: WindowSettings
    pack_rule: PackRule
    folder: Path
    limits: ClipSettings
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

    clip_id: ClipId
    n_frames: int
    windows: tuple[CutWindow, ...]
    problem: str | None = None


def cut_clip(job: CutJob) -> tuple[Cut, ...]:
    """Probe, plan and pack the clips of one file with one decode; return what became of each, in their order.

    A file that cannot be read any more is a result with `problem` set; other windows and files are unharmed.
    """
    try:
        status = job.location.stat()
        if (status.st_size, status.st_mtime_ns) != (job.expected_bytes, job.expected_mtime_ns):
            return not_cut(job, "the file has changed since it was registered; run raw_clips again")
        facts = probe_clip(job.location, job.limits)
    except FileNotFoundError:
        return not_cut(job, "the file is not in uploads/ any more; put it back and run the batch again")
    except (UnreadableVideo, OSError) as fault:
        return not_cut(job, str(fault))
    if any(clip.frames is not None and clip.frames.end >= facts.n_frames for clip in job.clips):
        return not_cut(job, f"the file has {facts.n_frames:,} frames, fewer than when it was split; upload it again")
    planned = [_plan(job, clip, facts) for clip in job.clips]
    wanted = [(wid, window) for windows in planned for wid, window in windows if job.only is None or wid in job.only]
    outcomes = pack_windows(job.location, facts, wanted, job.pack_rule, job.folder, job.limits)
    made = {window_id: outcome for (window_id, _), outcome in zip(wanted, outcomes, strict=True)}
    return tuple(_cut(clip, facts, windows, made) for clip, windows in zip(job.clips, planned, strict=True))


def not_cut(job: CutJob, problem: str) -> tuple[Cut, ...]:
    """Return the result of a job that failed as a whole."""
    return tuple(Cut(clip.clip_id, 0, (), problem) for clip in job.clips)


def _plan(job: CutJob, clip: FileClip, facts: ClipFacts) -> list[tuple[WindowId, PlannedWindow]]:
    return [
        (ids.window_id(clip.clip_id, window.start_frame, window.end_frame, job.window_recipe), window)
        for window in plan_clip(facts, job.window_rule, clip.frames)
    ]


def _cut(
    clip: FileClip,
    facts: ClipFacts,
    planned: Sequence[tuple[WindowId, PlannedWindow]],
    made: dict[WindowId, PackOutcome],
) -> Cut:
    n_frames = clip.frames.n_frames if clip.frames else facts.n_frames
    windows = (CutWindow(wid, index, made[wid]) for index, (wid, _) in enumerate(planned) if wid in made)
    return Cut(clip.clip_id, n_frames, tuple(windows))
