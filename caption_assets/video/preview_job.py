"""Making previews in a worker process: of one window from its packed frames, or of a clip's windows from the clip."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from av.video.frame import VideoFrame

from caption_assets.ids import ClipId, WindowId
from caption_assets.settings.groups import ClipSettings, PreviewSettings
from caption_assets.video.decode import TimesOutOfOrder, decode_frames
from caption_assets.video.frame_store import FramesUnavailable, load_frames
from caption_assets.video.preview import (
    POSTER_SUFFIX,
    Preview,
    PreviewWriter,
    choose_frames,
    make_preview,
)
from caption_assets.video.probe import ClipFacts, UnreadableVideo, probe_clip
from caption_assets.video.to_rgb import UprightScaler


@dataclass(frozen=True)
class PreviewJob:
    """A window to show. Times are seconds from the clip's first frame; the source is the clip as shown.

    Files are written to `folder` under the window's id. warnings: sentences to be recorded with the preview.
    """

    window_id: WindowId
    pack: Path
    folder: Path
    start_s: float
    end_s: float
    rule: PreviewSettings
    source_fps: float
    source_width: int
    source_height: int
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class MadePreview:
    """The files that were written, by their names, or the `problem` that kept them from being."""

    name: str = ""
    sha256: str = ""
    bytes: int = 0
    width: int = 0
    height: int = 0
    n_frames: int = 0
    poster_name: str = ""
    poster_sha256: str = ""
    poster_bytes: int = 0
    warnings: tuple[str, ...] = ()
    problem: str | None = None


@dataclass(frozen=True)
class ShownWindow:
    """A window of a clip. Frames are counted and seconds run from the clip's first frame; the last frame is inclusive.

    clip_start_frame: the clip's first frame, counted from the file's; above 0 where the clip is a part of its file.
    """

    window_id: WindowId
    start_frame: int
    end_frame: int
    start_s: float
    end_s: float
    clip_start_frame: int = 0


@dataclass(frozen=True)
class ClipPreviewJob:
    """A file that is decoded for the previews of some windows of its clips.

    clip_id: of the whole file.
    expected_bytes, expected_mtime_ns: what was registered; a file that changed since is refused.
    """

    clip_id: ClipId
    location: Path
    expected_bytes: int
    expected_mtime_ns: int
    windows: tuple[ShownWindow, ...]
    folder: Path
    rule: PreviewSettings
    limits: ClipSettings


@dataclass(frozen=True)
class ClipPreviews:
    """A result for each window of the job, in its order."""

    windows: tuple[MadePreview, ...]


def write_preview(job: PreviewJob) -> MadePreview:
    """Write the preview of a window and its poster, each under a temporary name first."""
    try:
        preview = make_preview(
            load_frames(job.pack),
            job.start_s,
            job.end_s,
            job.rule,
            source_fps=job.source_fps,
            source_width=job.source_width,
            source_height=job.source_height,
            warnings=job.warnings,
        )
    except (FramesUnavailable, OSError, ValueError) as fault:
        return MadePreview(problem=str(fault))
    with _staged(job.folder) as files:
        made = files.add(job.window_id, preview)
        files.rename()
    return made


def write_clip_previews(job: ClipPreviewJob) -> ClipPreviews:
    """Write the previews of a clip's windows from frames of the clip at target_fps, with one decode.

    A window of which no frame decodes, or whose clip cannot be read any more, is a result with `problem` set. Frames
    that do not decode are left out, with a warning.
    """
    try:
        status = job.location.stat()
        if (status.st_size, status.st_mtime_ns) != (job.expected_bytes, job.expected_mtime_ns):
            return all_failed(job, "the file has changed since it was registered")
        facts = probe_clip(job.location, job.limits)
    except (UnreadableVideo, OSError) as fault:
        return all_failed(job, str(fault))
    if any(window.clip_start_frame + window.end_frame >= facts.n_frames for window in job.windows):
        return all_failed(job, f"it has {facts.n_frames} frames now, fewer than when it was cut into windows")
    try:
        return _write_from_clip(job, facts)
    except TimesOutOfOrder:
        return _write_from_clip(job, replace(facts, by_pts=False))


def _write_from_clip(job: ClipPreviewJob, facts: ClipFacts) -> ClipPreviews:
    showings = [_Showing(window, facts, job.rule) for window in job.windows]
    with _staged(job.folder) as files:
        try:
            failure = _feed(showings, job, facts, files)
            if failure is not None and not facts.by_pts:
                return all_failed(job, failure)  # frames placed by their order are certain only in a whole pass
            made = tuple(showing.finish(files, failure) for showing in showings)
        finally:
            for showing in showings:
                showing.close()
        files.rename()
    return ClipPreviews(made)


def _feed(showings: Sequence["_Showing"], job: ClipPreviewJob, facts: ClipFacts, files: "_StagedFiles") -> str | None:
    """Decode the clip once and hand out its frames; return why decoding ended early, if it did."""
    readers: dict[int, list[_Showing]] = {}
    for showing in showings:
        for index in showing.wanted:
            readers.setdefault(index, []).append(showing)
    waiting = list(showings)
    scaler = UprightScaler(facts)
    try:
        for index, frame in decode_frames(job.location, facts, readers.keys(), job.limits):
            for showing in readers[index]:
                showing.add(index, frame, scaler)
            # Written as soon as it is over: memory holds the encoders of windows that overlap in time and no more.
            for showing in [each for each in waiting if each.wanted[-1] <= index]:
                showing.finish(files, None)
                waiting.remove(showing)
    except TimesOutOfOrder:
        raise
    except UnreadableVideo as fault:
        return str(fault)
    return None


class _Showing:
    """The preview of one window while its clip is decoded. wanted: frames of the file, ascending."""

    def __init__(self, window: ShownWindow, facts: ClipFacts, rule: PreviewSettings) -> None:
        first, last = (window.clip_start_frame + index for index in (window.start_frame, window.end_frame))
        self._clip_start_s = facts.times_s[window.clip_start_frame]
        times_s = [time_s - self._clip_start_s for time_s in facts.times_s[first : last + 1]]
        self.wanted = [first + index for index in choose_frames(times_s, window.start_s, window.end_s, rule.target_fps)]
        self._window, self._facts, self._rule = window, facts, rule
        self._writer: PreviewWriter | None = None
        self._n_added = 0
        self._newest = -1
        self._made: MadePreview | None = None

    def add(self, index: int, frame: VideoFrame, scaler: UprightScaler) -> None:
        """Take a frame of the file. One that comes after later ones was found by a second decode, and is left out."""
        if self._made is not None or index < self._newest:
            return
        self._newest = index
        if self._writer is None:
            self._writer = PreviewWriter(
                self._window.start_s,
                self._window.end_s,
                self._rule,
                self._facts.display_width,
                self._facts.display_height,
                source_fps=self._facts.fps,
            )
        time_s = self._facts.times_s[index] - self._clip_start_s
        self._writer.add(scaler.rgb(frame, self._writer.height, self._writer.width), time_s)
        self._n_added += 1

    def finish(self, files: "_StagedFiles", failure: str | None) -> MadePreview:
        """Write the preview under a temporary name, once. failure: why decoding ended early."""
        if self._made is None:
            n_lost = len(self.wanted) - self._n_added
            if self._writer is None or (n_lost and failure):
                self._made = MadePreview(problem=failure or "none of its frames decodes")
            else:
                warning = f"{n_lost} of {len(self.wanted)} frames do not decode and are left out"
                preview = self._writer.finish(*([warning] if n_lost else []))
                self._made = files.add(self._window.window_id, preview)
                self.close()
        return self._made

    def close(self) -> None:
        """Give up what is not finished."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


class _StagedFiles:
    """Files under temporary names in one folder, until all of them are known to be right."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._staged: list[tuple[Path, Path]] = []

    def add(self, window_id: WindowId, preview: Preview) -> MadePreview:
        """Write a preview and its poster; return what is to be recorded of them."""
        name, poster_name = f"{window_id}{preview.format.suffix}", f"{window_id}{POSTER_SUFFIX}"
        self._write(poster_name, preview.poster)
        self._write(name, preview.data)
        return MadePreview(
            name=name,
            sha256=hashlib.sha256(preview.data).hexdigest(),
            bytes=len(preview.data),
            width=preview.width,
            height=preview.height,
            n_frames=preview.n_frames,
            poster_name=poster_name,
            poster_sha256=hashlib.sha256(preview.poster).hexdigest(),
            poster_bytes=len(preview.poster),
            warnings=preview.warnings,
        )

    def rename(self) -> None:
        """Give the files their names."""
        while self._staged:
            temporary, final = self._staged.pop(0)
            temporary.replace(final)

    def discard(self) -> None:
        """Remove what has not got its name."""
        for temporary, _ in self._staged:
            temporary.unlink(missing_ok=True)

    def _write(self, name: str, data: bytes) -> None:
        temporary = self._folder / f".{name}.{os.getpid()}.tmp"
        self._staged.append((temporary, self._folder / name))
        temporary.write_bytes(data)


@contextmanager
def _staged(folder: Path) -> Iterator[_StagedFiles]:
    folder.mkdir(parents=True, exist_ok=True)
    files = _StagedFiles(folder)
    try:
        yield files
    finally:
        files.discard()


def all_failed(job: ClipPreviewJob, problem: str) -> ClipPreviews:
    """Return the result of a job that came to nothing."""
    return ClipPreviews(tuple(MadePreview(problem=problem) for _ in job.windows))
