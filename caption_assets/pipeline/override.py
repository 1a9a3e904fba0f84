"""Overrides: a person says which captions of a window are kept, or that none is.

An override is a decision like a policy's, with a verdict for each candidate considered, and wins over every policy
until it is withdrawn or the same window is overridden again.
"""

import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from caption_assets import ids
from caption_assets.captioning.decisions import candidate_set_hash
from caption_assets.exchange.table import write_tables
from caption_assets.ledger.database import Ledger
from caption_assets.pipeline.reviewer import ReviewError, person
from caption_assets.retention.model import ReasonCode
from caption_assets.root import RootFolder

Row = Mapping[str, object]

OVERRIDE = "override"
"""Stands where a policy and its recipe would."""


class PersonReason(ReasonCode):
    """Why a person's decision kept a candidate or not."""

    KEPT_BY_PERSON = "KEPT_BY_PERSON", "A person chose it; the note says why."
    NOT_CHOSEN_BY_PERSON = "NOT_CHOSEN_BY_PERSON", "A person chose another caption, or none."
    OVERRIDE_WITHDRAWN = "OVERRIDE_WITHDRAWN", "A person took an override back: policies decide again."


def override(
    root: RootFolder, window_id: str, keep: Sequence[str], *, by: str, note: str | None = None
) -> list[dict[str, object]]:
    """Keep the candidates `keep` of a window, the best first, or none where it is empty; return the decision's rows.

    Any candidate with a text can be kept: one of an older recipe, one that a gate dropped, the original caption.

    Raises:
        ReviewError: no such window; a candidate that is not there, is of another window, is named twice or has no
            text; or a window without candidates.
    """
    ledger, who = Ledger(root), person(by)
    candidates = _candidates(ledger, window_id)
    chosen = _chosen(ledger, window_id, candidates, keep)
    recipe = chosen[0]["recipe_id"] if chosen else _shown_recipe(ledger, window_id, candidates)
    considered = [c for c in candidates if c["recipe_id"] == recipe or c in chosen]
    ranks = {row["candidate_id"]: rank for rank, row in enumerate(chosen, start=1)}
    verdicts = [
        (c["candidate_id"], "keep", PersonReason.KEPT_BY_PERSON, ranks[c["candidate_id"]])
        if c["candidate_id"] in ranks
        else (c["candidate_id"], "drop", PersonReason.NOT_CHOSEN_BY_PERSON, None)
        for c in considered
    ]
    return _commit(root, ledger, window_id, str(recipe), verdicts, who, {"note": note})


def withdraw_override(root: RootFolder, window_id: str, *, by: str, note: str | None = None) -> list[dict[str, object]]:
    """Let the policies decide on a window again; return the rows that say so.

    Raises:
        ReviewError: no such window, or no override stands.
    """
    ledger, who = Ledger(root), person(by)
    _candidates(ledger, window_id)
    standing = ledger.named("standing_override", window=window_id)
    if not standing:
        raise ReviewError(f"{window_id}: there is no override to withdraw")
    verdicts = [(row["candidate_id"], "withdraw", PersonReason.OVERRIDE_WITHDRAWN, None) for row in standing]
    evidence = {"withdraws": standing[0]["decision_id"], "note": note}
    return _commit(root, ledger, window_id, str(standing[0]["recipe_id"]), verdicts, who, evidence)


def _candidates(ledger: Ledger, window_id: str) -> list[dict[str, object]]:
    if not ledger.query("SELECT 1 AS found FROM windows WHERE window_id = $window", window=window_id):
        raise ReviewError(f"{window_id}: no such window in the ledger")
    return ledger.named("window_candidates", window=window_id)


def _chosen(ledger: Ledger, window_id: str, candidates: Sequence[Row], keep: Sequence[str]) -> list[Row]:
    """Return the rows of `keep`, in its order."""
    by_id = {str(row["candidate_id"]): row for row in candidates}
    if twice := {name for name in keep if list(keep).count(name) > 1}:
        raise ReviewError(f"{', '.join(sorted(twice))}: named twice")
    for name in keep:
        if name not in by_id:
            raise ReviewError(_not_here(ledger, window_id, name, list(by_id)))
        if not str(by_id[name]["text"] or "").strip():
            raise ReviewError(f"{name} has no text (its status is {by_id[name]['status']}), so it cannot be kept")
    return [by_id[name] for name in keep]


def _not_here(ledger: Ledger, window_id: str, name: str, there: Sequence[str]) -> str:
    other = ledger.query("SELECT window_id FROM caption_candidates WHERE candidate_id = $candidate", candidate=name)
    if other:
        return f"{name} is a caption of {other[0]['window_id']}, not of {window_id}; override that window"
    return f"{name}: no such candidate; {window_id} has {', '.join(there) or 'none'}"


def _shown_recipe(ledger: Ledger, window_id: str, candidates: Sequence[Row]) -> object:
    """Return the caption recipe of the decision in force, whose captions `none` is about; without one, the newest."""
    if not candidates:
        raise ReviewError(f"{window_id}: there is no candidate to decide about")
    shown = ledger.named("shown_recipe", window=window_id)
    return shown[0]["recipe_id"] if shown else candidates[-1]["recipe_id"]


def _commit(
    root: RootFolder,
    ledger: Ledger,
    window_id: str,
    recipe: str,
    verdicts: Sequence[tuple[object, str, PersonReason, int | None]],
    who: str,
    evidence: Row,
) -> list[dict[str, object]]:
    act, now = f"{OVERRIDE}-{uuid.uuid4()}", datetime.now(UTC)
    rows: list[dict[str, object]] = [
        {
            "decision_id": "d" + ids.digest(window_id, act),
            "candidate_id": candidate_id,
            "window_id": window_id,
            "recipe_id": recipe,
            "policy_recipe_id": OVERRIDE,
            "candidate_set_sha256": candidate_set_hash([{"candidate_id": name} for name, *_ in verdicts]),
            "action": action,
            "reason_code": str(reason),
            "rank": rank,
            "evidence": {name: value for name, value in evidence.items() if value is not None},
            "policy": OVERRIDE,
            "decided_by": who,
            "run_id": act,
            "created_at": now,
        }
        for candidate_id, action, reason, rank in verdicts
    ]
    batches = [str(row["batch"]) for row in ledger.named("batches_showing_window", window=window_id)]
    ledger.commit(act, batches[0] if batches else OVERRIDE, {"retention_decisions": rows})
    for batch in batches:
        write_tables(root, ledger, batch)
    return rows
