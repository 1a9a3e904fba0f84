"""How batches stand: what is done and what is missing, what failed and why, and what is odd about files."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from caption_assets.ids import PERSON
from caption_assets.ledger import upkeep
from caption_assets.ledger.captions import (
    BatchFile,
    BatchHistory,
    clips_to_cut,
    current_split,
    current_uploads,
    group,
    hidden_frames,
    is_complete,
    newest,
    recorded_uploads,
    standing_takedowns,
    uncut_clips,
    unsplit_files,
)
from caption_assets.ledger.schema import CandidateRow, CaptionRow, ClipSetRow, EnhancedRow, RunRow, WindowSetRow
from caption_assets.ledger.store import Session
from caption_assets.pipeline.caption_work import WINDOWS_OF_BATCH, CaptionWork, count_missing, read_caption_work


@dataclass(frozen=True, slots=True)
class BatchStatus:
    """How many files, windows and captions of a batch there are at each stage."""

    batch: str
    files_ok: int
    files_quarantined: int
    files_gone: int
    files_not_split: int
    windows_ok: int
    windows_error: int
    clips_without_windows: int
    collapsed: int
    captioned: int
    captions_not_current: int
    captions_missing: int
    enhanced: int
    enhancements_drifted: int
    previews: int

    @property
    def is_complete(self) -> bool:
        """Every file could be used, and every window has a caption of the current recipes."""
        faults = self.files_quarantined + self.files_not_split + self.windows_error + self.clips_without_windows
        return not faults and not self.captions_missing and self.captioned == self.windows_ok


COUNTED = """(
    SELECT f.batch, f.files_ok, f.files_quarantined, f.files_gone, 0 AS files_not_split,
           coalesce(w.windows_ok, 0) AS windows_ok, coalesce(w.windows_error, 0) AS windows_error,
           0 AS clips_without_windows, coalesce(w.collapsed, 0) AS collapsed, coalesce(w.captioned, 0) AS captioned,
           coalesce(w.captions_not_current, 0) AS captions_not_current, 0 AS captions_missing,
           coalesce(w.enhanced, 0) AS enhanced, coalesce(w.enhancements_drifted, 0) AS enhancements_drifted,
           coalesce(w.previews, 0) AS previews
    FROM (
      SELECT batch, count(*) FILTER (WHERE status = 'ok') AS files_ok,
             count(*) FILTER (WHERE status = 'quarantined') AS files_quarantined,
             count(*) FILTER (WHERE status = 'gone') AS files_gone
      FROM live_uploads WHERE {of_batch} GROUP BY batch
    ) f
    LEFT JOIN (
      SELECT batch, count(*) FILTER (WHERE status <> 'window_error') AS windows_ok,
             count(*) FILTER (WHERE status = 'window_error') AS windows_error, count(duplicate_of) AS collapsed,
             count(candidate_id) AS captioned,
             count(candidate_id) FILTER (WHERE NOT is_current) AS captions_not_current,
             count(*) FILTER (WHERE enhanced_status IN ('ok', 'truncated', 'flagged')) AS enhanced,
             count(*) FILTER (WHERE drift = 'drifted') AS enhancements_drifted, count(preview_path) AS previews
      FROM captions WHERE {of_batch} GROUP BY batch
    ) w ON w.batch = f.batch
    ORDER BY f.batch
) counted"""
"""What can be counted. The zeros are what rules say is missing."""


def batch_status(session: Session, batch: str | None) -> list[BatchStatus]:
    """Return the counts of every batch, or of one. A batch that is taken down has none."""
    of_batch = "true" if batch is None else "batch = $batch"
    named = {} if batch is None else {"batch": batch}
    histories = {history.batch: history for history in upkeep.read_files(session, batch)}
    cut, uncaptioned = _cut_clips(session, batch), count_missing(session, batch)
    return [
        replace(
            row,
            files_not_split=len(unsplit_files(histories[row.batch])),
            clips_without_windows=len(clips_to_cut(histories[row.batch], cut)),
            captions_missing=uncaptioned.get(row.batch, 0),
        )
        for row in session.select(BatchStatus, COUNTED.format(of_batch=of_batch), **named)
    ]


def _cut_clips(session: Session, batch: str | None) -> set[tuple[str, str]]:
    """Return the clips of a batch, or all, that have a complete window set, each with the set's recipe."""
    of_clips = "true" if batch is None else f"clip_id IN ({upkeep.CLIPS_OF_BATCH})"
    named = {} if batch is None else {"batch": batch}
    counting = f"SELECT clip_id, recipe_id, count(*) FROM windows WHERE {of_clips} GROUP BY clip_id, recipe_id"
    counts = {(clip, recipe): count for clip, recipe, count in session.rows(counting, **named)}
    sets = session.select(WindowSetRow, f"window_sets WHERE {of_clips}", **named)
    names = [(row.clip_id, row.recipe_id) for row in sets]
    return {name for name, row in zip(names, sets, strict=True) if is_complete(row, counts.get(name, 0))}


@dataclass(frozen=True, slots=True)
class Problem:
    """Something of a batch that failed. what: file, split, clip, window, caption, enhancement or preview."""

    what: str
    name: str
    error: str | None


def problems(session: Session, batch: str) -> list[Problem]:
    """Return everything of a batch that failed, with its reason, sorted by kind and name."""
    from caption_assets.pipeline.previews import read_previewed  # loads the video code, which `status` does not need

    history, work = upkeep.read_history(session, batch), read_caption_work(session, batch)
    found = [
        *_file_problems(history),
        *(Problem("window", name_of(row), row.error) for row in work.rows if row.status == "window_error"),
        *_caption_problems(work),
        *_enhancement_problems(session, history, work.rows),
        *(
            Problem("preview", name_of(window.row), window.preview.error)
            for window in read_previewed(session, batch)
            if window.preview is not None and window.preview.status == "error"
        ),
    ]
    return sorted(found, key=lambda problem: (problem.what, problem.name))


def name_of(row: CaptionRow) -> str:
    """Return what a window is called in messages."""
    return f"{row.clip_name} window {row.window_index}"


def failed_splits(history: BatchHistory) -> list[tuple[BatchFile, ClipSetRow]]:
    """Return the files that the current recipe could not split, each with its newest attempt."""
    recipe = current_split(history)
    tried = group((row for row in history.clip_sets if row.recipe_id == recipe), lambda row: row.source_clip_id)
    return [(file, newest(tried[file.clip_id])) for file in unsplit_files(history) if file.clip_id in tried]


def _file_problems(history: BatchHistory) -> Iterator[Problem]:
    for upload in current_uploads(history):
        if upload.status == "quarantined":
            yield Problem("file", upload.path, upload.error)
    for file, attempt in failed_splits(history):
        yield Problem("split", file.path, attempt.error)
    recipe = history.recipes["window"].recipe_id if "window" in history.recipes else None
    tried = group((row for row in history.window_sets if row.recipe_id == recipe), lambda row: row.clip_id)
    for clip in uncut_clips(history):
        if clip.clip_id in tried:
            yield Problem("clip", clip.name, newest(tried[clip.clip_id]).error)


def _caption_problems(work: CaptionWork) -> Iterator[Problem]:
    missing = {row.window_id for row in work.missing}
    for row in work.rows:
        if row.window_id in missing:
            failed = [each for each in work.candidates.get(row.window_id, ()) if each.status == "error"]
            yield Problem("caption", name_of(row), _newest_error(failed))
            continue
        by_person = (row.decided_by or "").startswith(PERSON)  # a person's choice is no failure
        if row.status == "no_valid_candidate" and row.duplicate_of is None and not by_person:
            yield Problem("caption", name_of(row), row.error)


def _newest_error(failed: Sequence[CandidateRow]) -> str:
    last = max(failed, key=lambda each: (each.attempt, -each.sample_index), default=None)
    return last.error if last and last.error else "it was not captioned: the run ended before"


def _enhancement_problems(session: Session, history: BatchHistory, rows: Sequence[CaptionRow]) -> Iterator[Problem]:
    recipe = history.recipes.get("enhance")
    if recipe is None:
        return
    source = f"enhanced_captions WHERE recipe_id = $recipe AND window_id IN ({WINDOWS_OF_BATCH})"
    attempts = session.select(EnhancedRow, source, recipe=recipe.recipe_id, batch=history.batch)
    by_candidate = group(attempts, lambda attempt: attempt.candidate_id)
    for row in rows:
        for candidate in row.candidate_ids or () if row.duplicate_of is None else ():
            last = max(by_candidate.get(candidate, ()), key=lambda attempt: attempt.attempt, default=None)
            if last is not None and last.status == "error":
                yield Problem("enhancement", name_of(row), last.error)


@dataclass(frozen=True, slots=True)
class Note:
    """Something odd about a file that is used all the same, or why it is not shown."""

    path: str
    error: str


def notes(session: Session, batch: str) -> list[Note]:
    """Return what is odd about files of a batch, and which of them takedowns hide, by path."""
    history = upkeep.read_history(session, batch, windows=False)
    hidden, damaged = standing_takedowns(history.tombstones), hidden_frames(history)
    found = []
    for upload in recorded_uploads(history.uploads):
        if upload.status == "ok":
            for name in (("clip", upload.clip_id or ""), ("batch", batch)):
                if name in hidden:
                    reason = f" ({hidden[name].detail})" if hidden[name].detail else ""
                    person = hidden[name].requested_by.removeprefix(PERSON)
                    found.append(Note(upload.path, f"not shown: taken down by {person}{reason}"))
    for upload in current_uploads(history):
        if upload.status == "ok":
            if upload.error is not None:
                found.append(Note(upload.path, upload.error))
            for first, last in damaged.get(upload.clip_id or "", ()):
                shown = f"no clip with any of the frames {first} to {last} is shown: they are taken down"
                found.append(Note(upload.path, shown))
    return sorted(found, key=lambda note: (note.path, note.error))


@dataclass(frozen=True, slots=True)
class AssetSummary:
    """What one run did to one batch in one asset: items, and seconds."""

    asset: str
    status: str
    expected: int
    new: int
    reused: int
    failed: int
    error: str | None
    seconds: float


def run_summary(session: Session, run_id: str, batch: str) -> list[AssetSummary]:
    """Return what a run did to a batch, asset by asset, in the order of their start."""
    runs = session.select(
        RunRow, "runs WHERE run_id = $run AND batch = $batch ORDER BY started_at, asset_key", run=run_id, batch=batch
    )
    return [
        AssetSummary(
            asset=run.asset_key,
            status=run.status,
            expected=run.n_expected,
            new=run.n_ok,
            reused=run.n_reused,
            failed=run.n_error,
            error=run.error,
            seconds=round((run.ended_at - run.started_at).total_seconds(), 2),
        )
        for run in runs
    ]
