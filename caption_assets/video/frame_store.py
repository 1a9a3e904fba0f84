"""Packed frames as a cache: found where any run left them, made again from the clip where they were deleted."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from caption_assets.ids import ClipId, RecipeId, WindowId
from caption_assets.root import RootFolder
from caption_assets.settings.groups import ClipSettings, DecodeSettings, WindowSettings
from caption_assets.video.pack import PackRule, pack_path, read_pack
from caption_assets.video.packed_frames import PackedFrames
from caption_assets.video.window_job import CutJob, FileClip, cut_clip
from caption_assets.video.windowing import FrameRange
from caption_assets.video.workers import WorkerFailure, map_jobs

PARQUET_MAGIC = b"PAR1"
"""First and last bytes of every Parquet file."""


class FramesUnavailable(RuntimeError):
    """The frames of a window are not there and cannot be made. The message says why."""


@dataclass(frozen=True)
class ClipFile:
    """A file of a batch that holds a clip, as it was registered."""

    batch: str
    path: str
    bytes: int
    mtime_ns: int


@dataclass(frozen=True)
class ClipPlace:
    """Where a clip is to be found.

    source: the clip that is the whole file: those of one source are decoded together.
    frames: which of the file's frames are the clip; None where it is the whole file.
    files: every registered file with this clip; the first is in the batch of the run.
    """

    source: ClipId
    frames: FrameRange | None = None
    files: Sequence[ClipFile] = ()


@dataclass(frozen=True)
class WindowFrames:
    """A window whose frames are wanted, with what it takes to make them again."""

    window_id: WindowId
    clip_id: ClipId
    place: ClipPlace
    window_recipe: RecipeId
    window_rule: WindowSettings


class FrameStore:
    """Packed frames of one pack rule."""

    def __init__(self, root: RootFolder, batch: str, rule: PackRule, limits: ClipSettings, decode: DecodeSettings):
        self._root = root
        self._batch = batch
        self._rule = rule
        self._limits = limits
        self._decode = decode

    def ensure(self, wanted: Sequence[WindowFrames]) -> tuple[dict[WindowId, Path], dict[WindowId, str]]:
        """Return where each window's pack lies, and the reason for each that cannot be had.

        Files with missing packs are decoded once each, side by side.
        """
        there: dict[WindowId, Path] = {}
        missing: dict[tuple[ClipId, RecipeId], list[WindowFrames]] = {}
        for window in wanted:
            path = self._find(window)
            if path is not None:
                there[window.window_id] = path
            else:
                missing.setdefault((window.place.source, window.window_recipe), []).append(window)
        lost: dict[WindowId, str] = {}
        jobs: dict[CutJob, list[WindowFrames]] = {}
        for windows in missing.values():
            job = self._cut_job(windows)
            if job is None:
                lost.update({w.window_id: "no file of the clip is in uploads/ any more" for w in windows})
            else:
                jobs[job] = windows
        for job, result in map_jobs(cut_clip, list(jobs), self._decode):
            cuts = () if isinstance(result, WorkerFailure) else result
            problem = result.reason if isinstance(result, WorkerFailure) else result[0].problem
            made = {w.window_id: w.outcome for cut in cuts for w in cut.windows}
            for window in jobs[job]:
                outcome = made.get(window.window_id)
                if outcome is not None and outcome.status == "ok":
                    there[window.window_id] = pack_path(job.folder, window.window_id, self._rule.pack_id)
                else:
                    reason = outcome.error if outcome is not None else problem
                    lost[window.window_id] = f"its frames cannot be made again: {reason or 'the clip has changed'}"
        return there, lost

    def _find(self, window: WindowFrames) -> Path | None:
        for batch in dict.fromkeys([self._batch, *(file.batch for file in window.place.files)]):
            path = pack_path(self._root.frames(batch), window.window_id, self._rule.pack_id)
            if _is_whole(path):
                return path
        return None

    def _cut_job(self, windows: Sequence[WindowFrames]) -> CutJob | None:
        first = windows[0]
        file = find_file(self._root, first.place.files)
        if file is None:
            return None
        return CutJob(
            clips=tuple(dict.fromkeys(FileClip(window.clip_id, window.place.frames) for window in windows)),
            location=self._root.uploads / file.batch / file.path,
            expected_bytes=file.bytes,
            expected_mtime_ns=file.mtime_ns,
            window_recipe=first.window_recipe,
            window_rule=first.window_rule,
            pack_rule=self._rule,
            folder=self._root.frames(self._batch),
            limits=self._limits,
            only=frozenset(window.window_id for window in windows),
        )


def _is_whole(path: Path) -> bool:
    """Tell whether a pack lies at `path` and both its ends are there: a torn one is made again at once."""
    try:
        with path.open("rb") as file:
            head = file.read(len(PARQUET_MAGIC))
            file.seek(-len(PARQUET_MAGIC), os.SEEK_END)
            return head == file.read() == PARQUET_MAGIC
    except OSError:
        return False


def load_frames(path: Path) -> PackedFrames:
    """Read one window's packed frames.

    Raises:
        FramesUnavailable: the file is gone or damaged; the next run makes it again.
    """
    try:
        return read_pack(path)
    except (OSError, ValueError) as fault:
        # A damaged pack would be found again and again: the cache must not keep it.
        path.unlink(missing_ok=True)
        raise FramesUnavailable(
            f"packed frames {path.name} cannot be read ({fault}); run again to make them"
        ) from fault


def find_file(root: RootFolder, files: Sequence[ClipFile]) -> ClipFile | None:
    """Return the first of a clip's files that is still in uploads/, or None."""
    return next((file for file in files if (root.uploads / file.batch / file.path).is_file()), None)
