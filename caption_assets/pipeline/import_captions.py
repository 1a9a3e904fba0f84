"""From a delivery to a batch: its videos below `uploads/`, its captions as candidates, judged like any other.

In a batch without captions the imported ones become current, and every one that passes the gates is kept, as they were
kept where they come from. In any other batch they stand beside what is there, for a person to choose.
"""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from caption_assets import ids
from caption_assets.exchange.delivery import DeliveredCaption, Delivery, ImportFault
from caption_assets.exchange.selection import shown_paths
from caption_assets.exchange.table import write_tables
from caption_assets.ids import CandidateId, RecipeId, WindowId
from caption_assets.ledger import upkeep
from caption_assets.ledger.captions import BatchHistory, group
from caption_assets.ledger.database import Ledger
from caption_assets.ledger.schema import CandidateRow, CaptionRow, EnhancedRow, PreviewRow, Record, SampleRow
from caption_assets.ledger.store import Session
from caption_assets.locks import batches_to_ourselves
from caption_assets.pipeline.caption_work import WINDOWS_OF_BATCH, candidate_order
from caption_assets.pipeline.retain import decide_batch
from caption_assets.pipeline.stage_run import activate, active_row, recipe_rows
from caption_assets.root import RootFolder
from caption_assets.settings import Settings
from caption_assets.settings.recipes import (
    imported_enhance_recipe,
    imported_preview_recipe,
    imported_recipe,
    retention_recipe,
)
from caption_assets.uploads.link import Upload, bring_in
from caption_assets.video.webp import check_webp

SIDECAR_SUFFIX = ".txt"
KEEP_ALL = "all"


@dataclass(frozen=True)
class Entered:
    """What an import entered.

    videos: those that were new. captions: those that found their window; dropped: how many of them gates stopped.
    previews: those that were copied. is_current: the captions are those that the batch shows.
    """

    videos: int
    samples: int
    captions: int
    dropped: int
    previews: int
    is_current: bool
    problems: tuple[str, ...]


def bring_files(root: RootFolder, delivery: Delivery, batch: str) -> int:
    """Link or copy the videos into the batch, with the words that came with them; return how many were new.

    Raises:
        ImportFault: there is nothing to bring. UploadError: the batch has another file of that name.
    """
    if not delivery.videos and not delivery.samples:
        raise ImportFault("there is nothing to import" + "".join(f"\n{sentence}" for sentence in delivery.problems))
    upload = Upload(batch, tuple((source.resolve(), path) for path, source in sorted(delivery.videos.items())))
    new = bring_in(upload, root.uploads)
    for path, words in sorted(delivery.originals.items()):
        _write_sidecar(root.uploads / batch / PurePosixPath(path).with_suffix(SIDECAR_SUFFIX), words, delivery)
    return new


def _write_sidecar(path: Path, words: str, delivery: Delivery) -> None:
    if path.exists():
        if path.read_text(encoding="utf-8-sig").strip() != words:
            delivery.problems.append(f"{path.name}: other words are there already, left out: {words[:80]!r}")
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(words, encoding="utf-8")
    temporary.replace(path)


def enter(
    root: RootFolder, ledger: Ledger, delivery: Delivery, batch: str, settings: Settings, new_videos: int
) -> Entered:
    """Enter a delivery whose videos are in the batch and cut into windows.

    Waits for a run that works on the batch. The caller keeps the batch locked from the cutting of its windows on:
    otherwise another run may caption them first, and what is delivered stands beside its captions.

    Importing the same again enters nothing twice.

    Raises:
        ImportFault: the batch has other samples.
    """
    with batches_to_ourselves(root, [batch]):
        return _enter(root, ledger, delivery, batch, settings, new_videos)


@dataclass(frozen=True)
class _Batch:
    """What the ledger says of a batch before anything is entered. previews: the files that are recorded."""

    history: BatchHistory
    rows: Sequence[CaptionRow]
    samples: Sequence[SampleRow]
    previews: Collection[str]


def _read_batch(session: Session, batch: str) -> _Batch:
    previews = f"SELECT DISTINCT uri FROM previews WHERE window_id IN ({WINDOWS_OF_BATCH}) AND uri IS NOT NULL"
    return _Batch(
        history=upkeep.read_history(session, batch, windows=False),
        rows=upkeep.batch_rows(session, batch),
        samples=session.select(SampleRow, "samples WHERE batch = $batch ORDER BY sample_index", batch=batch),
        previews={uri for (uri,) in session.rows(previews, batch=batch)},
    )


def _enter(
    root: RootFolder, ledger: Ledger, delivery: Delivery, batch: str, settings: Settings, new_videos: int
) -> Entered:
    act, now = f"import-{uuid.uuid4()}", datetime.now(UTC)
    state = ledger.read(_read_batch, batch)
    samples = _samples(delivery, batch, state.samples, act, now)
    windows = _Windows(state)
    placed = [(caption, window) for caption in delivery.captions for window in windows.of(caption.path, caption.frames)]
    recipe = imported_recipe(delivery.origin, _model(caption.model for caption, _ in placed))
    previews = _previews(root, windows, delivery, batch, state.previews, act, now)
    rows: list[Record] = [*samples, *previews]
    if previews:
        rows += recipe_rows(imported_preview_recipe(delivery.origin), act)
    if placed:
        rows += recipe_rows(recipe, act)
        rows += [_candidate(caption, window, recipe.recipe_id, delivery.origin, act, now) for caption, window in placed]
    ledger.commit(rows)
    is_current = bool(placed) and "caption" not in state.history.recipes
    if is_current:
        everyone = settings.with_overrides([f"retention.keep_candidate_mode={KEEP_ALL}"])
        activate(ledger, batch, [retention_recipe(everyone)], act, act)
        decide_batch(ledger, batch, ledger.read(_considered, batch, state.rows, recipe.recipe_id), everyone, act)
        enhanced = _enhanced(placed, recipe.recipe_id, delivery.origin, batch, act, now)
        ledger.commit([*enhanced, active_row(recipe, batch, act, act)])  # last: until then, an import begins again
    dropped = ledger.read(_dropped_by_gates, batch) if is_current else 0
    write_tables(root, ledger, batch)
    return Entered(
        new_videos,
        len(delivery.samples),
        len(placed),
        dropped,
        len(previews),
        is_current,
        (*delivery.problems, *windows.missing),
    )


def _considered(
    session: Session, batch: str, rows: Sequence[CaptionRow], recipe: str
) -> list[tuple[CaptionRow, list[CandidateRow]]]:
    """Return the windows of a batch that have imported captions, with them."""
    source = f"caption_candidates WHERE recipe_id = $recipe AND window_id IN ({WINDOWS_OF_BATCH})"
    candidates = session.select(CandidateRow, source, recipe=recipe, batch=batch)
    by_window = group(sorted(candidates, key=candidate_order), lambda candidate: candidate.window_id)
    return [(row, by_window[row.window_id]) for row in rows if row.window_id in by_window]


def _dropped_by_gates(session: Session, batch: str) -> int:
    """Return how many candidates gates dropped or put behind, in the decisions that a batch shows."""
    [[count]] = session.rows(
        """
        SELECT count(*) FROM captions c
        JOIN retention_decisions d ON d.decision_id = c.decision_id AND d.window_id = c.window_id
        WHERE c.batch = $batch AND d.reason_code LIKE 'GATE%'
        """,
        batch=batch,
    )
    return int(count)


def _samples(delivery: Delivery, batch: str, stored: Sequence[SampleRow], act: str, now: datetime) -> list[SampleRow]:
    rows = [
        SampleRow(
            batch=batch,
            sample_index=index,
            text=sample.text,
            videos=list(sample.videos),
            columns=json.dumps(sample.columns, ensure_ascii=False),
            origin=delivery.origin,
            run_id=act,
            created_at=now,
        )
        for index, sample in enumerate(delivery.samples)
    ]
    before, given = ([(row.sample_index, row.text, row.videos, row.columns) for row in some] for some in (stored, rows))
    if before and before != given:
        raise ImportFault(f"the batch {batch!r} has other samples already; choose another --batch")
    return rows


class _Windows:
    """The windows of a batch by path and frames of the file; `missing` says which could not be found."""

    def __init__(self, state: _Batch):
        self.missing: list[str] = []
        by_path: dict[str | None, dict[tuple[int, int], WindowId]] = {}
        for row in state.rows:
            frames = (row.clip_start_frame + row.start_frame, row.clip_start_frame + row.end_frame)
            by_path.setdefault(row.clip_path, {})[frames] = WindowId(row.window_id)
        self._by_path = {path: by_path.get(shown, {}) for path, shown in shown_paths(state.history).items()}

    def of(self, path: str, frames: tuple[int, int] | None) -> list[WindowId]:
        """Return the window with these frames, or all of the video where none are given."""
        windows = self._by_path.get(path, {})
        if frames is None:
            if not windows:
                self._note(f"{path}: it has no window, so its caption is left out")
            return list(windows.values())
        if frames in windows:
            return [windows[frames]]
        present = ", ".join(f"{first} to {last}" for first, last in sorted(windows)) or "none"
        self._note(
            f"{path}: no window has the frames {frames[0]} to {frames[1]}; its windows: {present}. Import into another "
            "--batch with the window.window_size and window.remainder_threshold that it was captioned with"
        )
        return []

    def _note(self, sentence: str) -> None:
        if sentence not in self.missing:
            self.missing.append(sentence)


def _model(models: Iterable[str]) -> str:
    """Return the model of most captions; they share one recipe, so that they are judged together."""
    counted = list(models)
    return max(sorted(set(counted)), key=counted.count) if counted else ""


def _candidate(
    caption: DeliveredCaption, window: WindowId, recipe: RecipeId, origin: str, act: str, now: datetime
) -> CandidateRow:
    return CandidateRow(
        candidate_id=_candidate_id(caption, window, recipe),
        task_id=ids.task_id("import", window, recipe),
        window_id=window,
        recipe_id=recipe,
        sample_index=caption.rank,
        attempt=1,
        stage=1,
        origin=origin,
        status="ok" if caption.text.strip() else "empty",
        text=caption.text,
        run_id=act,
        created_at=now,
    )


def _candidate_id(caption: DeliveredCaption, window: WindowId, recipe: RecipeId) -> CandidateId:
    return CandidateId("k" + ids.digest(ids.task_id("import", window, recipe), caption.rank, caption.text))


def _enhanced(
    placed: Sequence[tuple[DeliveredCaption, WindowId]],
    recipe: RecipeId,
    origin: str,
    batch: str,
    act: str,
    now: datetime,
) -> list[Record]:
    """Return the rows of enhanced captions, and of the recipe that they share, which becomes current."""
    rewritten = [(caption, window) for caption, window in placed if caption.enhanced]
    if not rewritten:
        return []
    enhance = imported_enhance_recipe(origin, _model(str(caption.enhanced_model) for caption, _ in rewritten))
    rows: list[Record] = [*recipe_rows(enhance, act), active_row(enhance, batch, act, act)]
    for caption, window in rewritten:
        candidate = _candidate_id(caption, window, recipe)
        task = ids.task_id("import", candidate, enhance.recipe_id)
        rows.append(
            EnhancedRow(
                enhanced_id="e" + ids.digest(task, caption.enhanced),
                task_id=task,
                candidate_id=candidate,
                window_id=window,
                recipe_id=enhance.recipe_id,
                attempt=1,
                status="ok",
                text=caption.enhanced,
                run_id=act,
                created_at=now,
            )
        )
    return rows


def _previews(
    root: RootFolder,
    windows: _Windows,
    delivery: Delivery,
    batch: str,
    recorded: Collection[str],
    act: str,
    now: datetime,
) -> list[PreviewRow]:
    """Copy the previews of windows that have none, and return their rows.

    recorded: the files that have rows. A file without one is what a killed import left.
    """
    rows: dict[str, PreviewRow] = {}
    for preview in delivery.previews:
        for window in windows.of(preview.path, preview.frames):
            target = root.previews(batch) / f"{window}{preview.file.suffix}"
            uri = root.relative(target)
            if uri in rows or (target.exists() and uri in recorded):
                continue
            data = preview.file.read_bytes()
            try:
                width, height, n_frames = check_webp(data)
            except ValueError as fault:
                delivery.problems.append(f"{preview.file.name}: {fault}")
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
            shutil.copyfile(preview.file, temporary)
            temporary.replace(target)
            rows[uri] = PreviewRow(
                window_id=window,
                recipe_id=imported_preview_recipe(delivery.origin).recipe_id,
                uri=uri,
                sha256=hashlib.sha256(data).hexdigest(),
                bytes=len(data),
                width=width,
                height=height,
                n_frames=n_frames,
                warnings=[],
                status="ok",
                run_id=act,
                created_at=now,
            )
    return list(rows.values())
