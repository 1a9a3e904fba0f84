"""Overrides: a person says which captions of a window are kept, or that none is.

An override is a decision like a policy's, with a verdict for each candidate considered, and wins over every policy
until it is withdrawn or the same window is overridden again.
"""

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime

from caption_assets import ids
from caption_assets.captioning.decisions import candidate_set_hash
from caption_assets.exchange.table import write_tables
from caption_assets.ledger.captions import VerdictFacts, decisions_of, latest_decision, standing_override
from caption_assets.ledger.database import Ledger
from caption_assets.ledger.schema import CandidateRow, CaptionRow, DecisionRow, as_json
from caption_assets.ledger.store import Session
from caption_assets.pipeline.reviewer import ReviewError, person
from caption_assets.retention.model import ReasonCode
from caption_assets.root import RootFolder

OVERRIDE = "override"
"""Stands where a policy and its recipe would."""

DECISIONS = "retention_decisions WHERE window_id = $window"


class PersonReason(ReasonCode):
    """Why a person's decision kept a candidate or not."""

    KEPT_BY_PERSON = "KEPT_BY_PERSON", "A person chose it; the note says why."
    NOT_CHOSEN_BY_PERSON = "NOT_CHOSEN_BY_PERSON", "A person chose another caption, or none."
    OVERRIDE_WITHDRAWN = "OVERRIDE_WITHDRAWN", "A person took an override back: policies decide again."


Verdict = tuple[str, str, PersonReason, int | None]
"""A candidate, what is done with it, why, and its rank."""


def override(
    root: RootFolder, window_id: str, keep: Sequence[str], *, by: str, note: str | None = None
) -> list[DecisionRow]:
    """Keep the candidates `keep` of a window, the best first, or none where it is empty; return the decision's rows.

    Any candidate with a text can be kept: one of an older recipe, one that a gate dropped, the original caption.

    Raises:
        ReviewError: no such window; a candidate that does not exist, is of another window, is named twice or has no
            text; or a window without candidates.
    """
    ledger, who = Ledger(root), person(by)
    with ledger.session() as session:
        candidates = _candidates(session, window_id)
        chosen = _chosen(session, window_id, candidates, keep)
        recipe = chosen[0].recipe_id if chosen else _shown_recipe(session, window_id, candidates)
    considered = [candidate for candidate in candidates if candidate.recipe_id == recipe or candidate in chosen]
    ranks = {candidate.candidate_id: rank for rank, candidate in enumerate(chosen, start=1)}
    verdicts: list[Verdict] = [
        (candidate.candidate_id, "keep", PersonReason.KEPT_BY_PERSON, ranks[candidate.candidate_id])
        if candidate.candidate_id in ranks
        else (candidate.candidate_id, "drop", PersonReason.NOT_CHOSEN_BY_PERSON, None)
        for candidate in considered
    ]
    return _commit(root, ledger, window_id, recipe, verdicts, who, {"note": note})


def withdraw_override(root: RootFolder, window_id: str, *, by: str, note: str | None = None) -> list[DecisionRow]:
    """Let the policies decide on a window again; return the rows that say so.

    Raises:
        ReviewError: no such window, or no override stands.
    """
    ledger, who = Ledger(root), person(by)
    with ledger.session() as session:
        _candidates(session, window_id)
        standing = standing_override(decisions_of(session.select(VerdictFacts, DECISIONS, window=window_id)))
    if standing is None:
        raise ReviewError(f"{window_id}: there is no override to withdraw")
    verdicts: list[Verdict] = [
        (verdict.candidate_id, "withdraw", PersonReason.OVERRIDE_WITHDRAWN, None)
        for verdict in sorted(standing.verdicts, key=lambda each: (each.rank is None, each.rank, each.candidate_id))
    ]
    evidence = {"withdraws": standing.decision_id, "note": note}
    return _commit(root, ledger, window_id, standing.verdicts[0].recipe_id, verdicts, who, evidence)


def _candidates(session: Session, window_id: str) -> list[CandidateRow]:
    """Return every candidate of a window, of whatever recipe, the oldest first."""
    if not session.rows("SELECT window_id FROM windows WHERE window_id = $window", window=window_id):
        raise ReviewError(f"{window_id}: no such window in the ledger")
    order = "ORDER BY created_at, sample_index, attempt, candidate_id"
    return session.select(CandidateRow, f"caption_candidates WHERE window_id = $window {order}", window=window_id)


def _chosen(
    session: Session, window_id: str, candidates: Sequence[CandidateRow], keep: Sequence[str]
) -> list[CandidateRow]:
    """Return the rows of `keep`, in its order."""
    by_id = {candidate.candidate_id: candidate for candidate in candidates}
    if twice := {name for name in keep if list(keep).count(name) > 1}:
        raise ReviewError(f"{', '.join(sorted(twice))}: named twice")
    for name in keep:
        if name not in by_id:
            raise ReviewError(_why_absent(session, window_id, name, list(by_id)))
        if not (by_id[name].text or "").strip():
            raise ReviewError(f"{name} has no text (its status is {by_id[name].status}), so it cannot be kept")
    return [by_id[name] for name in keep]


def _why_absent(session: Session, window_id: str, name: str, present: Sequence[str]) -> str:
    other = session.rows("SELECT window_id FROM caption_candidates WHERE candidate_id = $candidate", candidate=name)
    if other:
        return f"{name} is a caption of {other[0][0]}, not of {window_id}; override that window"
    return f"{name}: no such candidate; {window_id} has {', '.join(present) or 'none'}"


def _shown_recipe(session: Session, window_id: str, candidates: Sequence[CandidateRow]) -> str:
    """Return the caption recipe of the decision in force on the window; without one, that of the newest candidate."""
    if not candidates:
        raise ReviewError(f"{window_id}: there is no candidate to decide about")
    rows = session.select(CaptionRow, "captions WHERE window_id = $window ORDER BY batch", window=window_id)
    decisions = decisions_of(session.select(VerdictFacts, DECISIONS, window=window_id))
    shown = latest_decision(rows, decisions)
    return shown.verdicts[0].recipe_id if shown else candidates[-1].recipe_id


def _commit(
    root: RootFolder,
    ledger: Ledger,
    window_id: str,
    recipe: str,
    verdicts: Sequence[Verdict],
    who: str,
    evidence: dict[str, str | None],
) -> list[DecisionRow]:
    """Record a decision, and write the tables of every batch that shows the window or its captions again."""
    act, now = f"{OVERRIDE}-{uuid.uuid4()}", datetime.now(UTC)
    rows = [
        DecisionRow(
            decision_id="d" + ids.digest(window_id, act),
            candidate_id=candidate_id,
            window_id=window_id,
            recipe_id=recipe,
            policy_recipe_id=OVERRIDE,
            candidate_set_sha256=candidate_set_hash([name for name, *_ in verdicts]),
            action=action,
            reason_code=str(reason),
            rank=rank,
            evidence=as_json({name: value for name, value in evidence.items() if value is not None}),
            policy=OVERRIDE,
            decided_by=who,
            run_id=act,
            created_at=now,
        )
        for candidate_id, action, reason, rank in verdicts
    ]
    ledger.commit(rows)
    showing = "SELECT DISTINCT batch FROM captions WHERE window_id = $window OR collapsed_into = $window ORDER BY batch"
    with ledger.session() as session:
        batches = [batch for (batch,) in session.rows(showing, window=window_id)]
    for batch in batches:
        write_tables(root, ledger, batch)
    return rows
