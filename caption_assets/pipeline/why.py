"""`caption-assets why`: a window's candidates, the winner first, each with the reason of its verdict."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TypeVar

from caption_assets.ledger.captions import (
    CurrentRecipe,
    EnhanceRule,
    VerdictFacts,
    WindowFacts,
    clip_facts,
    decisions_of,
    group,
    latest_decision,
    newest_check,
    skip_reason,
    standing_takedowns,
)
from caption_assets.ledger.database import Ledger
from caption_assets.ledger.schema import CaptionRow, ClipRow, DriftCheckRow, DuplicateRow, TombstoneRow
from caption_assets.ledger.store import Session
from caption_assets.ledger.upkeep import current_recipes
from caption_assets.pipeline.clip_uploads import uploads_of_clip
from caption_assets.pipeline.override import PersonReason
from caption_assets.retention import REASONS

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ExplainedWindow(WindowFacts):
    """A window, where its clip lies in the file (seconds; None for a whole file), and the files that hold it."""

    clip_start_s: float | None
    clip_end_s: float | None
    files: list[str] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratedCandidate:
    """A candidate, and what made it."""

    candidate_id: str
    window_id: str
    text: str | None
    status: str
    error: str | None
    origin: str
    stage: int
    sample_index: int
    attempt: int
    seed: int | None
    finish_reason: str | None
    prompt_tokens: int | None
    output_tokens: int | None
    model_id: str | None
    model_revision: str | None
    engine: str | None
    engine_version: str | None
    prompt_name: str | None
    prompt_sha256: str | None
    prompt: str | None
    recipe_id: str
    run_id: str
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainedCandidate(GeneratedCandidate):
    """A candidate with the verdict of the decision in force. reason: the sentence of its reason code."""

    action: str = "not judged"
    rank: int | None = None
    reason_code: str | None = None
    reason: str | None = None
    score: float | None = None
    evidence: object = None
    policy: str | None = None
    decided_by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratedEnhancement:
    """An enhanced caption, and what made it."""

    enhanced_id: str
    candidate_id: str
    status: str
    text: str | None
    error: str | None
    seed: int | None
    model_id: str | None
    model_revision: str | None
    engine: str | None
    engine_version: str | None
    prompt_name: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainedEnhancement(GeneratedEnhancement):
    """An enhanced caption with its newest drift check."""

    drift: str | None = None
    drift_reason: str | None = None
    evidence: object = None


@dataclass(frozen=True, slots=True)
class Collapse:
    """A window that a batch collapses into another. is_shown: the batch shows the other window's captions for it."""

    batch: str
    duplicate_of: str
    mode: str
    distance: float
    evidence: object
    is_shown: bool


@dataclass(frozen=True, slots=True)
class Skip:
    """Why a batch enhances no caption of a window, or not this candidate."""

    batch: str
    window_id: str
    candidate_id: str | None
    reason_code: str


@dataclass(frozen=True, slots=True)
class PastDecision:
    """A decision of a policy or a person on a window. kept: the candidates that it keeps, the best first."""

    decision_id: str
    decided_by: str
    policy: str
    created_at: datetime
    note: str | None
    is_withdrawal: bool
    kept: list[str]


@dataclass(frozen=True, slots=True)
class Explanation:
    """Everything the ledger knows of a window.

    takedowns: of its clip, its file and batches that held them, and withdrawals. history: every decision. Both with
    the oldest first.
    """

    window: ExplainedWindow
    takedowns: list[TombstoneRow]
    duplicates: list[Collapse]
    candidates: list[ExplainedCandidate]
    enhancements: list[ExplainedEnhancement]
    not_enhanced: list[Skip]
    history: list[PastDecision]


@dataclass(frozen=True, slots=True)
class Verdict(VerdictFacts):
    """A verdict on one candidate, with what it rests on."""

    score: float | None
    evidence: str


def explain(ledger: Ledger, window_id: str) -> Explanation | None:
    """Return what is known of a window, or None where there is no such window."""
    return ledger.read(_explain, window_id)


def _explain(session: Session, window_id: str) -> Explanation | None:
    windows = session.select(WindowFacts, "windows WHERE window_id = $window", window=window_id)
    if not windows:
        return None
    rows = session.select(CaptionRow, "captions WHERE window_id = $window ORDER BY batch", window=window_id)
    stand_ins = (row.collapsed_into for row in rows if row.collapsed_into)
    verdicts = _of_windows(session, Verdict, "retention_decisions", [window_id, *stand_ins])
    in_force = latest_decision(rows, decisions_of(verdicts))
    windows_shown = [window_id, in_force.window_id if in_force else window_id]
    in_question = [verdict for verdict in verdicts if in_force and verdict.decision_id == in_force.decision_id]
    candidates = _candidates(session, windows_shown, in_question)
    recipes = {row.batch: current_recipes(session, row.batch) for row in rows}
    window, takedowns = _origin(session, windows[0])
    return Explanation(
        window=window,
        takedowns=takedowns,
        duplicates=_duplicates(session, rows, recipes),
        candidates=candidates,
        enhancements=_enhancements(session, windows_shown),
        not_enhanced=_skips(rows, {each.candidate_id: each.status for each in candidates}, recipes),
        history=_history([verdict for verdict in verdicts if verdict.window_id == window_id]),
    )


def _of_windows(session: Session, record: type[T], table: str, windows: Iterable[str]) -> list[T]:
    """Return the rows about windows: a question for each, since DuckDB finds one id 8 times faster than one of two."""
    return [
        row for window in dict.fromkeys(windows)
        for row in session.select(record, f"{table} WHERE window_id = $window", window=window)
    ]  # fmt: skip


def _origin(session: Session, window: WindowFacts) -> tuple[ExplainedWindow, list[TombstoneRow]]:
    """Return where a window comes from, and what was taken down that it belongs to: its clip, file or a batch."""
    parts = session.select(ClipRow, "clips WHERE clip_id = $clip AND source_clip_id IS NOT NULL", clip=window.clip_id)
    part = clip_facts(parts).get(window.clip_id)
    file = part.source_clip_id if part and part.source_clip_id else window.clip_id
    of_clip = "object_kind = 'clip' AND object_id IN ($clip, $file)"
    batches = "SELECT batch FROM uploads WHERE clip_id IN ($clip, $file)"
    tombstones = session.select(
        TombstoneRow,
        f"tombstones WHERE ({of_clip}) OR (object_kind = 'batch' AND object_id IN ({batches})) "
        "ORDER BY created_at, object_kind, object_id",
        clip=window.clip_id,
        file=file,
    )
    hidden = standing_takedowns(tombstones)
    files = sorted(
        f"{row.batch}/{row.path}" for row in uploads_of_clip(session, file)
        if row.clip_id == file and ("batch", row.batch) not in hidden
    )  # fmt: skip
    start_s, end_s = (part.source_start_s, part.source_end_s) if part else (None, None)
    explained = ExplainedWindow(**asdict(window), clip_start_s=start_s, clip_end_s=end_s, files=files or None)
    return explained, tombstones


GENERATED = """(
    SELECT t.*, r.model_id, r.model_revision, r.engine, r.engine_version, r.prompt_sha256, p.name AS prompt_name,
           p.text AS prompt
    FROM {table} t
    JOIN recipes r ON r.recipe_id = t.recipe_id
    LEFT JOIN prompts p ON p.prompt_sha256 = r.prompt_sha256
) made"""
"""The rows of a table of texts, with what made them."""


def _candidates(session: Session, windows: Sequence[str], verdicts: Sequence[Verdict]) -> list[ExplainedCandidate]:
    """Return every candidate of windows, the winner first. verdicts: those of the decision in force."""
    made = _of_windows(session, GeneratedCandidate, GENERATED.format(table="caption_candidates"), windows)
    by_candidate = {verdict.candidate_id: verdict for verdict in verdicts}
    reasons = {str(code): code.sentence for code in (*REASONS, *PersonReason)}
    explained = []
    for candidate in sorted(made, key=lambda each: (each.created_at, each.sample_index)):
        verdict = by_candidate.get(candidate.candidate_id)
        judged = {} if verdict is None else {
            "action": verdict.action, "rank": verdict.rank, "reason_code": verdict.reason_code,
            "reason": reasons.get(verdict.reason_code), "score": verdict.score,
            "evidence": json.loads(verdict.evidence), "policy": verdict.policy, "decided_by": verdict.decided_by,
        }  # fmt: skip
        explained.append(ExplainedCandidate(**asdict(candidate), **judged))
    order = {"keep": 0, "not judged": 2}
    return sorted(explained, key=lambda each: (order.get(each.action, 1), each.rank is None, each.rank or 0))


def _enhancements(session: Session, windows: Sequence[str]) -> list[ExplainedEnhancement]:
    """Return the enhancements of the captions of windows, the newest first."""
    made = _of_windows(session, GeneratedEnhancement, GENERATED.format(table="enhanced_captions"), windows)
    checked = _of_windows(session, DriftCheckRow, "drift_checks", windows) if made else []
    checks = group(checked, lambda check: check.enhanced_id)
    explained = []
    for each in sorted(sorted(made, key=lambda each: each.enhanced_id), key=lambda each: each.created_at, reverse=True):
        check = newest_check(checks.get(each.enhanced_id, ()))
        verdict = {} if check is None else {
            "drift": check.status, "drift_reason": check.reason, "evidence": json.loads(check.evidence),
        }  # fmt: skip
        explained.append(ExplainedEnhancement(**asdict(each), **verdict))
    return explained


Recipes = Mapping[str, Mapping[str, CurrentRecipe]]
"""The current recipes of batches, by kind."""


def _duplicates(session: Session, rows: Sequence[CaptionRow], recipes: Recipes) -> list[Collapse]:
    """Return the decisions by which batches collapse a window. rows: the window in each batch."""
    collapsed = [row for row in rows if row.collapsed_into is not None]
    if not collapsed:
        return []
    window = collapsed[0].window_id
    decisions = session.select(DuplicateRow, "window_duplicates WHERE window_id = $window", window=window)
    by_recipe = {decision.recipe_id: decision for decision in decisions}
    return [
        Collapse(
            batch=row.batch,
            duplicate_of=decision.duplicate_of,
            mode=decision.mode,
            distance=decision.distance,
            evidence=json.loads(decision.evidence),
            is_shown=row.duplicate_of is not None,
        )
        for row in collapsed
        for decision in [by_recipe[recipes[row.batch]["dedupe"].recipe_id]]
    ]


def _skips(rows: Sequence[CaptionRow], statuses: Mapping[str, str], recipes: Recipes) -> list[Skip]:
    """Return what batches do not enhance of a window. A window that shows another one's captions is not skipped.

    rows: the window in each batch. statuses: of its candidates, by id.
    """
    return [
        Skip(row.batch, row.window_id, candidate, reason)
        for row in rows
        if (row.duplicate_of is None or row.decision_id is None) and EnhanceRule.of(recipes[row.batch]) is not None
        for candidate in (sorted(row.candidate_ids) if row.candidate_ids else (None,))
        if (reason := skip_reason(row, statuses.get(candidate or ""))) is not None
    ]


def _history(verdicts: Sequence[Verdict]) -> list[PastDecision]:
    """Return the decisions on a window, the oldest first."""
    notes = {verdict.decision_id: json.loads(verdict.evidence).get("note") for verdict in verdicts}
    decisions = sorted(decisions_of(verdicts), key=lambda each: each.verdicts[0].created_at)
    return [
        PastDecision(
            decision_id=decision.decision_id,
            decided_by=decision.verdicts[0].decided_by,
            policy=decision.verdicts[0].policy,
            created_at=decision.verdicts[0].created_at,
            note=notes[decision.decision_id],
            is_withdrawal=decision.is_withdrawal,
            kept=decision.kept,
        )
        for decision in decisions
    ]
