"""What is so now: which windows a batch shows, and which caption it serves of each. Pure functions of typed rows.

A file belongs to a batch through `uploads`, and its clips through the batch's split recipe; the same clip in two
batches is one clip. `placed` says where a batch's windows are; `decided`, `enhanced` and `previewed` fill in the rest.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any, Protocol, TypeVar

from caption_assets.ids import PERSON
from caption_assets.ledger.schema import (
    CaptionRow,
    ClipRow,
    ClipSetRow,
    DriftCheckRow,
    EnhancedRow,
    PreviewRow,
    TombstoneRow,
    UploadRow,
    WindowSetRow,
)

WITHDRAWN = "WITHDRAWN"

T = TypeVar("T")


class _Made(Protocol):
    @property
    def run_id(self) -> str: ...
    @property
    def created_at(self) -> datetime: ...


MadeT = TypeVar("MadeT", bound=_Made)


@dataclass(frozen=True, slots=True)
class WindowFacts:
    """Where a window is, without what its pictures look like."""

    window_id: str
    clip_id: str
    recipe_id: str
    window_index: int
    start_frame: int
    end_frame: int
    start_s: float
    end_s: float
    status: str
    error: str | None


@dataclass(frozen=True, slots=True)
class DuplicateFacts:
    """A decision that a window is collapsed into another."""

    window_id: str
    duplicate_of: str
    recipe_id: str


@dataclass(frozen=True, slots=True)
class VerdictFacts:
    """A verdict on one candidate; the verdicts with one `decision_id` are a decision."""

    decision_id: str
    candidate_id: str
    window_id: str
    recipe_id: str
    policy_recipe_id: str
    reference_sha256: str | None
    action: str
    reason_code: str
    rank: int | None
    policy: str
    decided_by: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class CandidateText:
    """A candidate as it is served."""

    candidate_id: str
    text: str | None
    status: str
    stage: int
    seed: int | None
    recipe_id: str


@dataclass(frozen=True, slots=True)
class MadeBy:
    """What made the candidates of a recipe."""

    recipe_id: str
    model_id: str | None
    model_revision: str | None
    engine: str | None
    engine_version: str | None
    prompt_sha256: str | None


@dataclass(frozen=True, slots=True)
class CurrentRecipe:
    """The recipe that is current for a stage of a batch."""

    kind: str
    recipe_id: str
    params: str

    @property
    def values(self) -> dict[str, object]:
        """The parameters."""
        values: dict[str, object] = json.loads(self.params)
        return values


@dataclass(frozen=True)
class BatchHistory:
    """Everything that decides which windows a batch shows.

    recipes: by kind, those that are current. clip_recipes: the caption recipe of clips that have their own.
    """

    batch: str
    uploads: Sequence[UploadRow] = ()
    tombstones: Sequence[TombstoneRow] = ()
    clips: Sequence[ClipRow] = ()
    clip_sets: Sequence[ClipSetRow] = ()
    window_sets: Sequence[WindowSetRow] = ()
    windows: Sequence[WindowFacts] = ()
    duplicates: Sequence[DuplicateFacts] = ()
    recipes: Mapping[str, CurrentRecipe] = field(default_factory=dict)
    clip_recipes: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True)
class BatchFile:
    """The files of a batch with the same content, under the first of their paths that is still there."""

    path: str
    clip_id: str
    original_caption: str | None


@dataclass(frozen=True)
class FileClip:
    """A clip of a file: the whole file, or a part of it as a split recipe has cut it.

    start_frame, end_frame (inclusive) and start_s are None for a whole file. is_current: the batch's current recipe
    wants this clip.
    """

    file: BatchFile
    clip_id: str
    split_recipe_id: str | None
    start_frame: int | None
    end_frame: int | None
    start_s: float | None
    is_current: bool

    @property
    def name(self) -> str:
        """The path, and for a part of a file where it begins."""
        return self.file.path if self.start_s is None else f"{self.file.path} from {self.start_s:.2f} s"


def group(items: Iterable[T], key: Callable[[T], str]) -> dict[str, list[T]]:
    """Return the items by key, in order."""
    groups: defaultdict[str, list[T]] = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return groups


def newest(rows: Iterable[MadeT]) -> MadeT:
    """Return the row that was made last; of two at once, the one of the first run by name."""
    return max(sorted(rows, key=lambda row: row.run_id), key=lambda row: row.created_at)


def current_uploads(history: BatchHistory) -> list[UploadRow]:
    """Return the newest row of each path, in the order of paths; none where the batch is taken down."""
    if ("batch", history.batch) in standing_takedowns(history.tombstones):
        return []
    return recorded_uploads(history.uploads)


def recorded_uploads(uploads: Iterable[UploadRow]) -> list[UploadRow]:
    """Return the newest row of each batch and path, in their order, whether it is taken down or not."""
    by_path: dict[tuple[str, str], list[UploadRow]] = {}
    for row in uploads:
        by_path.setdefault((row.batch, row.path), []).append(row)
    return [newest(by_path[name]) for name in sorted(by_path)]


def standing_takedowns(tombstones: Iterable[TombstoneRow]) -> dict[tuple[str, str], TombstoneRow]:
    """Return the newest tombstone of each clip and batch, by kind and id, unless it is a withdrawal."""
    last: dict[tuple[str, str], TombstoneRow] = {}
    for row in sorted(tombstones, key=lambda row: (row.created_at, row.run_id)):
        last[row.object_kind, row.object_id] = row
    return {name: row for name, row in last.items() if row.reason_code != WITHDRAWN}


def batch_files(history: BatchHistory) -> list[BatchFile]:
    """Return the files of a batch by content, without those that are taken down.

    A content whose files are all gone is served until a takedown: nothing disappears in silence.
    """
    hidden = standing_takedowns(history.tombstones)
    uploads = [row for row in current_uploads(history) if row.clip_id is not None]
    files = []
    for clip, rows in group(uploads, lambda row: str(row.clip_id)).items():
        if ("clip", clip) not in hidden:
            present = [row for row in rows if row.status == "ok"] or rows
            captions = [row.original_caption for row in rows if row.original_caption is not None]
            files.append(BatchFile(present[0].path, clip, captions[0] if captions else None))
    return files


def hidden_frames(history: BatchHistory) -> dict[str, set[tuple[int, int]]]:
    """Return, by file, the frames (first and last) of its parts that are taken down."""
    hidden = standing_takedowns(history.tombstones)
    frames: dict[str, set[tuple[int, int]]] = {}
    for clip in history.clips:
        if clip.source_clip_id and ("clip", clip.clip_id) in hidden:
            span = (clip.source_start_frame or 0, clip.source_end_frame or 0)
            frames.setdefault(clip.source_clip_id, set()).add(span)
    return frames


def current_split(history: BatchHistory) -> str | None:
    """Return the recipe that splits the files of a batch; None where clips are whole files."""
    recipe = history.recipes.get("split")
    return recipe.recipe_id if recipe and recipe.values["split"] != "none" else None


def split_clips(history: BatchHistory) -> dict[tuple[str, str], list[ClipRow]]:
    """Return what each file was split into, by file and split recipe: the newest set whose clips are all there."""
    clips = {(row.clip_id, row.recipe_id): row for row in history.clips}
    whole: dict[tuple[str, str], list[ClipSetRow]] = {}
    for row in history.clip_sets:
        if row.status == "ok" and all((clip, row.recipe_id) in clips for clip in row.clip_ids):
            whole.setdefault((row.source_clip_id, row.recipe_id), []).append(row)
    return {name: [clips[clip, name[1]] for clip in newest(rows).clip_ids] for name, rows in whole.items()}


def file_clips(history: BatchHistory) -> list[list[FileClip]]:
    """Return every way in which each file of a batch can be shown: whole, and as each split recipe has split it.

    What holds a frame that is taken down is left out.
    """
    hidden, splits, current = hidden_frames(history), split_clips(history), current_split(history)
    ways = []
    for file in batch_files(history):
        spans = hidden.get(file.clip_id, set())
        if not spans:
            ways.append([FileClip(file, file.clip_id, None, None, None, None, is_current=current is None)])
        for (source, recipe), clips in splits.items():
            if source == file.clip_id:
                shown = [
                    FileClip(
                        file,
                        clip.clip_id,
                        recipe,
                        clip.source_start_frame,
                        clip.source_end_frame,
                        clip.source_start_s,
                        is_current=recipe == current,
                    )
                    for clip in clips
                    if not _shows_any(clip, spans)
                ]
                ways.append(shown)
    return [way for way in ways if way]


def _shows_any(clip: ClipRow, spans: set[tuple[int, int]]) -> bool:
    first = clip.source_start_frame or 0
    return overlaps(spans, first, clip.n_frames - 1 if clip.source_end_frame is None else clip.source_end_frame)


def overlaps(spans: Iterable[tuple[int, int]], first: int, last: int) -> bool:
    """Tell whether one of the frames `first` to `last` is in one of the spans; all ends are inclusive."""
    return any(start <= last and end >= first for start, end in spans)


def wanted_clips(history: BatchHistory) -> list[FileClip]:
    """Return the clips that a batch should have: its files, or their parts where its current recipe splits them."""
    return [clip for way in file_clips(history) for clip in way if clip.is_current]


def unsplit_files(history: BatchHistory) -> list[BatchFile]:
    """Return the files that the current recipe is to split and has not. One that is gone cannot be split any more."""
    recipe, splits = current_split(history), split_clips(history)
    present = {row.path for row in current_uploads(history) if row.status == "ok"}
    files = batch_files(history) if recipe else []
    return [file for file in files if file.path in present and (file.clip_id, recipe) not in splits]


def clip_facts(clips: Iterable[ClipRow]) -> dict[str, ClipRow]:
    """Return the newest facts of each clip; of two at once, those of the first recipe by id."""
    facts: dict[str, ClipRow] = {}
    for clip in sorted(clips, key=lambda clip: clip.recipe_id):
        if clip.clip_id not in facts or clip.created_at > facts[clip.clip_id].created_at:
            facts[clip.clip_id] = clip
    return facts


def shown_clips(history: BatchHistory) -> list[FileClip]:
    """Return the clips that a batch shows of each file.

    The current way, as soon as all its clips have been cut into windows, well or not; until then the way that was cut
    before, the newest first.
    """
    cut_at: dict[str, datetime] = {}
    for row in history.window_sets:
        cut_at[row.clip_id] = max(row.created_at, cut_at.get(row.clip_id, row.created_at))

    def preference(way: Sequence[FileClip]) -> tuple[bool, bool, float]:
        times = [cut_at[clip.clip_id].timestamp() for clip in way if clip.clip_id in cut_at]
        return len(times) == len(way), way[0].is_current, max(times, default=float("-inf"))

    ways = group(sorted(file_clips(history), key=lambda way: way[0].split_recipe_id or "~"), _source_of)
    return [clip for some in ways.values() for clip in max(some, key=preference)]


def _source_of(way: Sequence[FileClip]) -> str:
    return way[0].file.clip_id


def complete_sets(history: BatchHistory) -> dict[str, list[WindowSetRow]]:
    """Return the window sets of each clip that did not fail and whose windows are all there."""
    counts: defaultdict[tuple[str, str], int] = defaultdict(int)
    for window in history.windows:
        counts[window.clip_id, window.recipe_id] += 1
    whole = [row for row in history.window_sets if is_complete(row, counts[row.clip_id, row.recipe_id])]
    return group(whole, lambda row: row.clip_id)


def is_complete(row: WindowSetRow, n_windows: int) -> bool:
    """Tell whether a clip was cut, and all its windows are there. n_windows: how many there are."""
    return row.status != "error" and row.n_windows == n_windows


def uncut_clips(history: BatchHistory) -> list[FileClip]:
    """Return the clips that have no complete window set under the batch's current window recipe."""
    sets = complete_sets(history)
    return clips_to_cut(history, {(clip, row.recipe_id) for clip, rows in sets.items() for row in rows})


def clips_to_cut(history: BatchHistory, cut: Collection[tuple[str, str]]) -> list[FileClip]:
    """Return the wanted clips that `cut` lacks: clips that have a complete window set, each with the set's recipe."""
    recipe = history.recipes.get("window")
    return [clip for clip in wanted_clips(history) if recipe and (clip.clip_id, recipe.recipe_id) not in cut]


def shown_sets(history: BatchHistory) -> list[tuple[FileClip, WindowSetRow]]:
    """Return the clips that a batch shows and that have been cut into windows, each with the set that is shown of it.

    That is the set of the current recipe; until it is there, the newest complete one.
    """
    sets, recipe = complete_sets(history), history.recipes.get("window")
    current = recipe.recipe_id if recipe else None
    return [
        (clip, max(
            sorted(sets[clip.clip_id], key=lambda row: row.run_id),
            key=lambda row: (row.recipe_id == current, row.created_at),
        ))
        for clip in shown_clips(history) if clip.clip_id in sets
    ]  # fmt: skip


def placed(history: BatchHistory) -> list[CaptionRow]:
    """Return a row for each window that a batch shows, in reading order, with nothing served for it yet."""
    windows = group(history.windows, lambda row: row.clip_id)
    recipe_ids = {kind: recipe.recipe_id for kind, recipe in history.recipes.items()}
    current, collapsed = recipe_ids.get("window"), _collapsed(history)
    rows = []
    for clip, chosen in shown_sets(history):
        source = clip.file.clip_id
        for window in windows.get(clip.clip_id, ()):
            if window.recipe_id == chosen.recipe_id:
                rows.append(
                    CaptionRow(
                        batch=history.batch,
                        clip_path=clip.file.path,
                        clip_name=clip.name,
                        clip_id=clip.clip_id,
                        source_clip_id=source,
                        window_id=window.window_id,
                        window_index=window.window_index,
                        start_frame=window.start_frame,
                        end_frame=window.end_frame,
                        start_s=window.start_s,
                        end_s=window.end_s,
                        clip_start_frame=clip.start_frame or 0,
                        clip_start_s=clip.start_s or 0.0,
                        window_recipe_id=window.recipe_id,
                        window_is_current=clip.is_current and window.recipe_id == current,
                        wanted_recipe_id=history.clip_recipes.get(source) or recipe_ids.get("caption"),
                        collapsed_into=collapsed.get(window.window_id) if window.status == "ok" else None,
                        original_caption=clip.file.original_caption,
                        status="not_captioned" if window.status == "ok" else "window_error",
                        error=window.error if window.status != "ok" else None,
                        n_candidates=0,
                    )
                )
    return sorted(rows, key=reading_order)


def reading_order(row: CaptionRow) -> tuple[str, int, int]:
    """Sort windows by path, clip and frame."""
    return row.clip_path, row.clip_start_frame, row.start_frame


def _collapsed(history: BatchHistory) -> dict[str, str]:
    """Return the window that stands for each one that the current dedupe recipe collapses."""
    recipe = history.recipes.get("dedupe")
    known = {window.window_id: window for window in history.windows}
    pairs = {}
    for row in history.duplicates:
        window, other = known.get(row.window_id), known.get(row.duplicate_of)
        if recipe is None or row.recipe_id != recipe.recipe_id or window is None or other is None:
            continue
        if other.status == "ok" and (window.clip_id, window.recipe_id) == (other.clip_id, other.recipe_id):
            pairs[row.window_id] = row.duplicate_of
    return pairs


# What is served of a window.


@dataclass(frozen=True)
class Decision:
    """The verdicts of one decision about the candidates of a window."""

    verdicts: Sequence[VerdictFacts]

    @property
    def decision_id(self) -> str:
        """The identity that the verdicts share."""
        return self.verdicts[0].decision_id

    @property
    def window_id(self) -> str:
        """The window whose candidates were judged."""
        return self.verdicts[0].window_id

    @property
    def kept(self) -> list[str]:
        """The candidates that it keeps, the best first."""
        keeps = [verdict for verdict in self.verdicts if verdict.action == "keep"]
        order = sorted(keeps, key=lambda each: (each.rank is None, each.rank or 0, each.candidate_id))
        return [verdict.candidate_id for verdict in order]

    @property
    def by_person(self) -> bool:
        """A person decided."""
        return self.verdicts[0].decided_by.startswith(PERSON)

    @property
    def is_withdrawal(self) -> bool:
        """A person took a decision back."""
        return any(verdict.action == "withdraw" for verdict in self.verdicts)


def decisions_of(verdicts: Iterable[VerdictFacts]) -> list[Decision]:
    """Return the decisions that verdicts make up, in the order of their ids."""
    by_id = group(verdicts, lambda verdict: verdict.decision_id)
    return [Decision(by_id[name]) for name in sorted(by_id)]


def standing_override(decisions: Iterable[Decision]) -> Decision | None:
    """Return the last word of a person on a window, unless it takes the one before back."""
    people = [decision for decision in decisions if decision.by_person]
    last = max(people, key=lambda each: (each.verdicts[0].created_at, each.verdicts[0].decision_id), default=None)
    return None if last is None or last.is_withdrawal else last


def decision_in_force(
    row: CaptionRow, verdicts: Mapping[str, Sequence[VerdictFacts]], policy_recipe: str | None
) -> Decision | None:
    """Return the decision that a batch shows of a window.

    Of the decisions on one window's candidates a person beats a policy, the current caption recipe beats an older one,
    the current policy beats an older one, one that compared with this batch's original caption beats one that did not,
    then the newest. For a window that is collapsed the decision on the window that stands for it is shown, unless
    there is one of its own that is current or a person's; of two old ones the newer.

    Args:
        row: the window, as `placed`.
        verdicts: those on every candidate of the window and of the one that stands for it, by window.
        policy_recipe: the retention recipe that is current for the batch.
    """
    subjects = [row.window_id, *([row.collapsed_into] if row.collapsed_into else [])]
    found = [best for name in subjects if (best := _best_decision(row, verdicts.get(name, ()), policy_recipe))]

    def preference(decision: Decision) -> tuple[bool, bool, bool, bool, datetime, bool]:
        first = decision.verdicts[0]
        own, current = first.window_id == row.window_id, is_current_decision(row, decision)
        return own and decision.by_person, bool(decision.kept), current, own and current, first.created_at, own

    return max(found, key=preference, default=None)


def is_current_decision(row: CaptionRow, decision: Decision) -> bool:
    """Tell whether a decision is about candidates of the caption recipe that is current for a current window."""
    return row.window_is_current and decision.verdicts[0].recipe_id == row.wanted_recipe_id


def _best_decision(row: CaptionRow, verdicts: Sequence[VerdictFacts], policy_recipe: str | None) -> Decision | None:
    decisions = decisions_of(verdicts)
    override = standing_override(decisions)
    decisions = [each for each in decisions if not each.by_person or each is override]
    reference = None if row.original_caption is None else hashlib.sha256(row.original_caption.encode()).hexdigest()

    def preference(decision: Decision) -> tuple[bool, bool, bool, bool, datetime]:
        first = decision.verdicts[0]
        return (
            decision.by_person,
            first.recipe_id == row.wanted_recipe_id,
            first.policy_recipe_id == policy_recipe,
            first.reference_sha256 == reference,
            first.created_at,
        )

    return max(decisions, key=preference, default=None)


def latest_decision(rows: Iterable[CaptionRow], decisions: Iterable[Decision]) -> Decision | None:
    """Return the decision in force on a window, where batches that show it differ.

    A person's on the window itself comes first, then one that is current, one on the window itself, the newest.

    Args:
        rows: the window in each batch.
        decisions: those on the window and on the ones that stand for it.
    """
    by_id = {decision.decision_id: decision for decision in decisions}
    shown = [
        (row, by_id[row.decision_id]) for row in sorted(rows, key=lambda row: row.decision_id or "")
        if row.decision_id in by_id
    ]  # fmt: skip

    def preference(pair: tuple[CaptionRow, Decision]) -> tuple[bool, bool, bool, bool, datetime]:
        row, decision = pair
        own = row.duplicate_of is None
        created_at = decision.verdicts[0].created_at
        return own and decision.by_person, is_current_decision(row, decision), own, decision.by_person, created_at

    return max(shown, key=preference)[1] if shown else None


MADE_BY = ("model_id", "model_revision", "engine", "engine_version", "prompt_sha256")
"""Columns of a recipe that a caption shows."""

NOTHING_KEPT: Mapping[str, Any] = dict.fromkeys(
    ("caption", "captions", "candidate_id", "candidate_ids", "caption_status", "is_current", "duplicate_of",
     "decision_id", "reason_code", "policy", "decided_by", "caption_recipe_id", *MADE_BY, "seed", "caption_stage")
)  # fmt: skip


def changed(row: CaptionRow, changes: Mapping[str, Any]) -> CaptionRow:
    """Return the row with `changes`; the row itself where it is so already, which is usual and cheaper."""
    return row if all(getattr(row, name) == value for name, value in changes.items()) else replace(row, **changes)


def decided(
    row: CaptionRow,
    decision: Decision | None,
    candidates: Mapping[str, CandidateText],
    makers: Mapping[str, MadeBy],
) -> CaptionRow:
    """Return the row of a window with the captions that the decision in force keeps.

    candidates: by id, those that it keeps at least. makers: by caption recipe.
    """
    damaged = row.status == "window_error"
    changes: dict[str, Any] = {"n_candidates": 0, **NOTHING_KEPT}
    if not damaged:
        changes |= {"status": "not_captioned", "error": None}
    if decision is None:
        return changed(row, {**changes, "duplicate_of": row.collapsed_into})
    first = decision.verdicts[0]
    changes |= {
        "duplicate_of": None if first.window_id == row.window_id else first.window_id,
        "n_candidates": len(decision.verdicts),
        "decision_id": first.decision_id,
        "policy": first.policy,
        "decided_by": first.decided_by,
    }
    kept = [candidates[name] for name in decision.kept if name in candidates and candidates[name].recipe_id in makers]
    if kept:
        best = kept[0]
        reasons = {verdict.candidate_id: verdict.reason_code for verdict in decision.verdicts}
        changes |= {
            "status": row.status if damaged else "captioned",
            "caption": best.text,
            "captions": [candidate.text or "" for candidate in kept],
            "candidate_id": best.candidate_id,
            "candidate_ids": [candidate.candidate_id for candidate in kept],
            "caption_status": best.status,
            "is_current": is_current_decision(row, decision),
            "reason_code": reasons[best.candidate_id],
            "caption_recipe_id": best.recipe_id,
            **{name: getattr(makers[best.recipe_id], name) for name in MADE_BY},
            "seed": best.seed,
            "caption_stage": best.stage,
        }
    elif not damaged:
        dropped_for = ", ".join(sorted({verdict.reason_code for verdict in decision.verdicts}))
        changes |= {"status": "no_valid_candidate", "error": f"every candidate was dropped: {dropped_for}"}
    return changed(row, changes)


NOTHING_ENHANCED: Mapping[str, Any] = dict.fromkeys(
    ("enhanced_caption", "enhanced_status", "enhanced_reason", "drift", "enhance_recipe_id")
)


@dataclass(frozen=True)
class EnhanceRule:
    """By which recipes a batch is enhanced and checked, and what it shows of drifted captions."""

    recipe_id: str
    drift_recipe_id: str | None
    on_drift: str

    @classmethod
    def of(cls, recipes: Mapping[str, CurrentRecipe]) -> "EnhanceRule | None":
        """Return the rule of a batch with these current recipes; None where nothing is enhanced."""
        enhance, drift, on_drift = (recipes.get(kind) for kind in ("enhance", "drift", "on_drift"))
        if enhance is None or enhance.values.get("enabled") is False:
            return None
        shown = str(on_drift.values["on_drift"]) if on_drift else "keep"
        return cls(enhance.recipe_id, drift.recipe_id if drift else None, shown)


def skip_reason(row: CaptionRow, caption_status: str | None) -> str | None:
    """Return why a caption, or a window without one, is not enhanced; None where it is. A cut text is no source."""
    if row.status == "window_error":
        return "window_error"
    if caption_status is not None:
        return None if caption_status == "ok" else caption_status
    return "not_captioned" if row.decision_id is None else "no_valid_candidate"


def best_attempt(rows: Iterable[EnhancedRow]) -> EnhancedRow | None:
    """Return the enhancement of a caption that counts: the newest attempt that is no error, else the newest."""
    return max(rows, key=lambda row: (row.status != "error", row.attempt), default=None)


def newest_check(rows: Iterable[DriftCheckRow]) -> DriftCheckRow | None:
    """Return the drift check of an enhancement that counts."""
    return max(sorted(rows, key=lambda row: row.check_id), key=lambda row: row.created_at, default=None)


def enhanced(
    row: CaptionRow,
    rule: EnhanceRule | None,
    enhancements: Iterable[EnhancedRow],
    checks: Iterable[DriftCheckRow],
) -> CaptionRow:
    """Return the row of a decided window with its enhanced caption.

    enhancements, checks: those of the kept candidate, whatever their recipes.
    """
    return changed(row, {**NOTHING_ENHANCED, **(_enhancement(row, rule, enhancements, checks) if rule else {})})


def _enhancement(
    row: CaptionRow, rule: EnhanceRule, enhancements: Iterable[EnhancedRow], checks: Iterable[DriftCheckRow]
) -> dict[str, Any]:
    text = best_attempt(each for each in enhancements if each.recipe_id == rule.recipe_id)
    if text is None:
        skip = skip_reason(row, row.caption_status)
        return {"enhanced_status": "skipped", "enhanced_reason": skip} if skip else {}
    check = newest_check(
        each for each in checks if (each.enhanced_id, each.recipe_id) == (text.enhanced_id, rule.drift_recipe_id)
    )
    status, caption, reason = text.status, text.text, check.reason if check else None
    if text.status not in ("ok", "truncated"):
        caption, reason = None, text.error
    elif rule.on_drift == "fallback" and (check is None or check.status == "drifted"):
        status, caption = "unchecked" if check is None else "fallback", row.caption
    elif rule.on_drift == "flag" and check is not None and check.status == "drifted":
        status = "flagged"
    return {
        "enhance_recipe_id": rule.recipe_id,
        "drift": check.status if check else None,
        "enhanced_status": status,
        "enhanced_caption": caption,
        "enhanced_reason": reason,
    }


def previews_by_folder(previews: Iterable[PreviewRow]) -> list[PreviewRow]:
    """Return what each folder holds of a window: the preview that its newest row there names, or the failure."""
    folders = group(previews, lambda row: str(PurePosixPath(row.uri).parent) if row.uri else row.recipe_id)
    return [newest(rows) for rows in folders.values()]


def shown_preview(previews: Iterable[PreviewRow], recipe: str | None) -> PreviewRow | None:
    """Return the preview that a batch shows of a window.

    Among the folders the batch's own recipe comes first, then the newest.
    """
    return max(
        sorted(previews_by_folder(previews), key=lambda row: row.run_id),
        key=lambda row: (row.recipe_id == recipe, row.created_at),
        default=None,
    )


def previewed(row: CaptionRow, preview: PreviewRow | None) -> CaptionRow:
    """Return the row of a window with its preview."""
    shown = preview if preview and preview.status == "ok" else None
    return changed(
        row,
        {
            "preview_path": shown.uri if shown else None,
            "poster_path": shown.poster_uri if shown else None,
            "preview_recipe_id": preview.recipe_id if preview else None,
        },
    )
