"""From a delivery to a batch: its videos below `uploads/`, its captions as candidates, judged like any other.

In a batch without captions the imported ones become current, and every one that passes the gates is kept, as they were
kept where they come from. In any other batch they stand beside what is there, for a person to choose.
"""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from caption_assets import ids
from caption_assets.exchange.delivery import DeliveredCaption, Delivery, ImportFault
from caption_assets.exchange.table import write_tables
from caption_assets.ids import CandidateId, RecipeId, WindowId
from caption_assets.ledger.database import Ledger
from caption_assets.locks import batches_to_ourselves
from caption_assets.pipeline.retain import decide_batch
from caption_assets.pipeline.stage_run import activate, recipe_rows
from caption_assets.root import RootFolder
from caption_assets.settings import Settings
from caption_assets.settings.recipes import (
    imported_enhance_recipe,
    imported_preview_recipe,
    imported_recipe,
    retention_recipe,
)
from caption_assets.uploads.link import Upload, bring_in
from caption_assets.video.preview import check_preview

Row = Mapping[str, object]
Rows = dict[str, list[dict[str, object]]]

SIDECAR_SUFFIX = ".txt"
KEEP_ALL = "all"


@dataclass(frozen=True)
class Entered:
    """What an import came to.

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

    Waits for a run that works on the batch. Who cuts the windows keeps the batch from then on, or another run may
    caption them in between, and what is delivered stands beside its captions.

    Done again, it enters nothing twice.

    Raises:
        ImportFault: the batch has other samples.
    """
    with batches_to_ourselves(root, [batch]):
        return _enter(root, ledger, delivery, batch, settings, new_videos)


def _enter(
    root: RootFolder, ledger: Ledger, delivery: Delivery, batch: str, settings: Settings, new_videos: int
) -> Entered:
    act = f"import-{uuid.uuid4()}"
    now = datetime.now(UTC)
    made: Row = {"run_id": act, "created_at": now}
    ledger.commit(act, batch, {"samples": _samples(ledger, delivery, batch, made)})
    windows = _Windows(ledger, batch)
    found = [(caption, window) for caption in delivery.captions for window in windows.of(caption.path, caption.frames)]
    current_kinds = {row["kind"] for row in ledger.named("batch_recipes", batch=batch) if row["recipe_id"]}
    is_current = "caption" not in current_kinds
    recipe = imported_recipe(delivery.origin, _model(caption.model for caption, _ in found))
    if found:
        rows = recipe_rows(recipe, batch, act, act)
        current = rows.pop("active_recipes")
        candidates = [_candidate(caption, window, recipe.recipe_id, delivery.origin, made) for caption, window in found]
        ledger.commit(act, batch, {**rows, "caption_candidates": candidates})
        if is_current:
            everyone = settings.with_overrides([f"retention.keep_candidate_mode={KEEP_ALL}"])
            activate(ledger, batch, [retention_recipe(everyone)], act, act)
            entered = ledger.named("batch_candidates", batch=batch, recipe=recipe.recipe_id)
            decide_batch(ledger, batch, entered, everyone, act)
            ledger.commit(act, batch, _enhanced(found, recipe.recipe_id, delivery.origin, batch, made))
            ledger.commit(act, batch, {"active_recipes": current})  # last: until it is there, an import begins again
    previews = _previews(root, ledger, windows, delivery, batch, made)
    ledger.commit(act, batch, previews)
    write_tables(root, ledger, batch)
    return Entered(
        new_videos,
        len(delivery.samples),
        len(found),
        sum(int(row["n"]) for row in ledger.named("gate_counts", batch=batch)) if is_current else 0,
        len(previews.get("previews", [])),
        is_current and bool(found),
        (*delivery.problems, *windows.missing),
    )


def _samples(ledger: Ledger, delivery: Delivery, batch: str, made: Row) -> list[dict[str, object]]:
    rows = [
        {
            "batch": batch,
            "sample_index": index,
            "text": sample.text,
            "videos": list(sample.videos),
            "columns": json.dumps(sample.columns, ensure_ascii=False),
            "origin": delivery.origin,
            **made,
        }
        for index, sample in enumerate(delivery.samples)
    ]
    there = ledger.named("batch_samples", batch=batch)
    given = [{name: row[name] for name in ("sample_index", "text", "videos", "columns")} for row in rows]
    if there and there != given:
        raise ImportFault(f"the batch {batch!r} has other samples already; choose another --batch")
    return rows


class _Windows:
    """The windows of a batch by path and frames of the file; what is asked for in vain is noted."""

    def __init__(self, ledger: Ledger, batch: str):
        self.missing: list[str] = []
        shown = {row["path"]: row["shown_path"] for row in ledger.named("batch_upload_paths", batch=batch)}
        by_path: dict[object, dict[tuple[int, int], WindowId]] = {}
        for row in ledger.named("batch_windows", batch=batch):
            first = int(row["clip_start_frame"])
            frames = (first + int(row["start_frame"]), first + int(row["end_frame"]))
            by_path.setdefault(row["path"], {})[frames] = WindowId(str(row["window_id"]))
        self._by_path = {path: by_path.get(shown_path, {}) for path, shown_path in shown.items()}

    def of(self, path: str, frames: tuple[int, int] | None) -> list[WindowId]:
        """Return the window with these frames, or all of the video where none are given."""
        windows = self._by_path.get(path, {})
        if frames is None:
            if not windows:
                self._note(f"{path}: it has no window, so its caption is left out")
            return list(windows.values())
        if frames in windows:
            return [windows[frames]]
        there = ", ".join(f"{first} to {last}" for first, last in sorted(windows)) or "none"
        self._note(
            f"{path}: no window has the frames {frames[0]} to {frames[1]}; windows there: {there}. Import into another "
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
    caption: DeliveredCaption, window: WindowId, recipe: RecipeId, origin: str, made: Row
) -> dict[str, object]:
    task = ids.task_id("import", window, recipe)
    return {
        "candidate_id": _candidate_id(caption, window, recipe),
        "task_id": task,
        "window_id": window,
        "recipe_id": recipe,
        "sample_index": caption.rank,
        "attempt": 1,
        "stage": 1,
        "origin": origin,
        "status": "ok" if caption.text.strip() else "empty",
        "text": caption.text,
        **made,
    }


def _candidate_id(caption: DeliveredCaption, window: WindowId, recipe: RecipeId) -> CandidateId:
    return CandidateId("k" + ids.digest(ids.task_id("import", window, recipe), caption.rank, caption.text))


def _enhanced(
    found: Sequence[tuple[DeliveredCaption, WindowId]], recipe: RecipeId, origin: str, batch: str, made: Row
) -> Rows:
    """Return the rows of enhanced captions, and of the recipe that they share."""
    rewritten = [(caption, window) for caption, window in found if caption.enhanced]
    if not rewritten:
        return {}
    enhance = imported_enhance_recipe(origin, _model(str(caption.enhanced_model) for caption, _ in rewritten))
    act = str(made["run_id"])
    rows: Rows = {name: [dict(row) for row in some] for name, some in recipe_rows(enhance, batch, act, act).items()}
    rows["enhanced_captions"] = []
    for caption, window in rewritten:
        candidate = _candidate_id(caption, window, recipe)
        task = ids.task_id("import", candidate, enhance.recipe_id)
        rows["enhanced_captions"].append(
            {
                "enhanced_id": "e" + ids.digest(task, caption.enhanced),
                "task_id": task,
                "candidate_id": candidate,
                "window_id": window,
                "recipe_id": enhance.recipe_id,
                "attempt": 1,
                "status": "ok",
                "text": caption.enhanced,
                **made,
            }
        )
    return rows


def _previews(root: RootFolder, ledger: Ledger, windows: _Windows, delivery: Delivery, batch: str, made: Row) -> Rows:
    """Copy previews of windows that have none, and return their rows. A file alone is what a killed import left."""
    recipe = imported_preview_recipe(delivery.origin)
    recorded = {row["uri"] for row in ledger.named("preview_files", batch=batch)} if delivery.previews else set()
    rows: list[dict[str, object]] = []
    for preview in delivery.previews:
        for window in windows.of(preview.path, preview.frames):
            target = root.previews(batch) / f"{window}{preview.file.suffix}"
            uri = root.relative(target)
            if target.exists() and uri in recorded:
                continue
            data = preview.file.read_bytes()
            try:
                width, height, n_frames = check_preview(data)
            except ValueError as fault:
                delivery.problems.append(f"{preview.file.name}: {fault}")
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
            shutil.copyfile(preview.file, temporary)
            temporary.replace(target)
            recorded.add(uri)
            rows.append(
                {
                    "window_id": window,
                    "recipe_id": recipe.recipe_id,
                    "uri": uri,
                    "sha256": hashlib.sha256(data).hexdigest(),
                    "bytes": len(data),
                    "width": width,
                    "height": height,
                    "n_frames": n_frames,
                    "warnings": [],
                    "status": "ok",
                    **made,
                }
            )
    if not rows:
        return {}
    act = str(made["run_id"])
    recipes = [dict(row) for row in recipe_rows(recipe, batch, act, act)["recipes"]]
    return {"recipes": recipes, "previews": rows}
