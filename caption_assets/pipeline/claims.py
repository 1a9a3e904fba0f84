"""What the ledger and the exports of a batch must always say: each claim is a function that returns its faults."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from caption_assets.ids import PERSON
from caption_assets.ledger.captions import (
    batch_files,
    clip_facts,
    current_split,
    group,
    newest_check,
    shown_sets,
    split_clips,
)
from caption_assets.ledger.schema import CaptionRow, DriftCheckRow, EnhancedRow
from caption_assets.ledger.store import Session
from caption_assets.ledger.upkeep import current_recipes, read_history
from caption_assets.pipeline.caption_work import WINDOWS_OF_BATCH, CaptionWork, read_caption_work
from caption_assets.pipeline.drift_checks import TEXTS


@dataclass(frozen=True, slots=True)
class Fault:
    """Where a claim is wrong. window_index: None where it is about a file or a clip."""

    batch: str
    path: str
    window_index: int | None
    fault: str


def _at(row: CaptionRow, fault: str) -> Fault:
    return Fault(row.batch, row.clip_name, row.window_index, fault)


def clips_partition_files(session: Session, batch: str) -> list[Fault]:
    """Claim: every frame of every file that was split is in exactly one clip."""
    history = read_history(session, batch, windows=False)
    recipe, splits = current_split(history), split_clips(history)
    files = clip_facts(clip for clip in history.clips if clip.source_clip_id is None)
    faults = []
    for file in batch_files(history):
        parts = splits.get((file.clip_id, recipe or ""))
        if parts is None or file.clip_id not in files:
            continue
        spans = []
        for part in parts:
            first = part.source_start_frame or 0
            last = first + part.n_frames - 1
            spans.append((first, last))
            if part.source_end_frame not in (None, last):
                faults.append(Fault(batch, file.path, None, f"{part.clip_id} has {part.n_frames} frames"))
        if wrong := _uneven(spans, files[file.clip_id].n_frames):
            faults.append(Fault(batch, file.path, None, wrong))
    return faults


def windows_partition_clips(session: Session, batch: str) -> list[Fault]:
    """Claim: every frame of every clip is in exactly one window."""
    history = read_history(session, batch)
    facts, windows = clip_facts(history.clips), group(history.windows, lambda window: window.clip_id)
    faults = []
    for clip, shown in shown_sets(history):
        if shown.status == "ok" and clip.clip_id in facts:
            spans = [
                (window.start_frame, window.end_frame)
                for window in windows.get(clip.clip_id, ()) if window.recipe_id == shown.recipe_id
            ]  # fmt: skip
            if wrong := _uneven(spans, facts[clip.clip_id].n_frames):
                faults.append(Fault(batch, clip.name, None, wrong))
    return faults


def _uneven(spans: Iterable[tuple[int, int]], n_frames: int) -> str | None:
    """Return where runs of frames, ends inclusive, leave out or share one of `n_frames`; None where they do neither."""
    after = 0
    for first, last in sorted(spans):
        if first > after:
            return f"the frames {after} to {first - 1} are left out"
        if first < after:
            return f"the frame {first} is there twice"
        after = last + 1
    return None if after == n_frames else f"there are {n_frames} frames, and {after} of them are covered"


def windows_have_candidates(session: Session, batch: str) -> list[Fault]:
    """Claim: every window has all candidates that its recipe asks for.

    A collapsed window needs none; the one that stands for it may not be collapsed itself, for then neither would be
    captioned.
    """
    return _without_candidates(read_caption_work(session, batch))


def _without_candidates(work: CaptionWork) -> list[Fault]:
    faults = []
    for row in work.missing:
        n_missing = work.rules[row.wanted_recipe_id or ""].n_missing(work.candidates.get(row.window_id, ()))
        faults.append(_at(row, f"{n_missing} candidates are missing"))
    collapsed = {row.window_id for row in work.rows if row.collapsed_into is not None}
    for row in work.rows:
        if row.collapsed_into in collapsed:
            faults.append(_at(row, f"it is collapsed into {row.collapsed_into}, which is collapsed itself"))
    return faults


def one_decision_per_candidate(session: Session, batch: str) -> list[Fault]:
    """Claim: every candidate of the current recipe has exactly one verdict in the decision in force.

    A person's decision names the candidates that it is about, so windows that a person decided are left out, and so
    are windows that show another window's captions.
    """
    verdicts = Counter(
        session.rows(
            "SELECT decision_id, candidate_id FROM retention_decisions WHERE decision_id IN "
            "(SELECT decision_id FROM captions WHERE batch = $batch)",
            batch=batch,
        )
    )
    faults = []
    for row, candidates in read_caption_work(session, batch).current_candidates:
        shows_another = row.decision_id is not None and row.duplicate_of is not None
        if shows_another or (row.decided_by or "").startswith(PERSON):
            continue
        for candidate in candidates:
            count = verdicts[row.decision_id, candidate.candidate_id]
            if count != 1:
                faults.append(_at(row, f"{candidate.candidate_id} has {count} verdicts"))
    return faults


def tokens_as_expected(session: Session, batch: str) -> list[Fault]:
    """Claim: every request had as many tokens as were expected before it was sent, wherever both counts are known."""
    return [
        _at(row, f"{each.candidate_id}: {each.expected_prompt_tokens} tokens expected, {each.prompt_tokens} read")
        for row, candidates in read_caption_work(session, batch).current_candidates
        for each in candidates
        if None not in (each.expected_prompt_tokens, each.prompt_tokens)
        and each.expected_prompt_tokens != each.prompt_tokens
    ]


def drifted_texts(session: Session, batch: str) -> Mapping[tuple[str, str | None], str]:
    """Return the enhanced captions that a batch may not show, by candidate and text, each with the reason.

    Where it falls back on captions, those are the texts that the current drift check calls drifted or has not checked.
    """
    recipes = current_recipes(session, batch)
    on_drift, enhance, drift = (recipes.get(kind) for kind in ("on_drift", "enhance", "drift"))
    if on_drift is None or enhance is None or drift is None or on_drift.values["on_drift"] != "fallback":
        return {}
    source = f"WHERE recipe_id = $recipe AND window_id IN ({WINDOWS_OF_BATCH})"
    texts = session.select(EnhancedRow, f"enhanced_captions {source}", recipe=enhance.recipe_id, batch=batch)
    checks = session.select(DriftCheckRow, f"drift_checks {source}", recipe=drift.recipe_id, batch=batch)
    by_text = group(checks, lambda check: check.enhanced_id)
    found = {}
    for text in texts:
        check = newest_check(by_text.get(text.enhanced_id, ()))
        if text.status in TEXTS and (check is None or check.status not in ("ok", "unchanged")):
            found[text.candidate_id, text.text] = (check.reason if check else None) or "it was not checked"
    return found
