"""From the candidates of a window to rows of retention decisions.

A decision is a pure function of the candidates, the policy, its parameters and the seed; deciding again never calls a
model. A first-stage caption that has a good second stage is set aside with the reason GATE_SUPERSEDED.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from caption_assets import ids
from caption_assets.captioning.tasks import GOOD_STATUSES
from caption_assets.ids import RecipeId, WindowId
from caption_assets.retention import Candidate, decide
from caption_assets.retention.model import SUPERSEDED

Row = Mapping[str, object]


@dataclass(frozen=True)
class RetentionRule:
    """A retention recipe as `decide` takes it."""

    recipe_id: RecipeId
    policy: str
    seed: int


def decision_rows(
    window: WindowId,
    candidates: Sequence[Row],
    rule: RetentionRule,
    reference: str | None,
    run_id: str,
    now: datetime,
) -> list[dict[str, object]]:
    """Judge `candidates`, rows of one window and one caption recipe, and return a row for each.

    reference is the window's original caption, where it has one.
    """
    if not candidates:
        return []
    refined = {c["parent_candidate_id"] for c in candidates if c["stage"] == 2 and c["status"] in GOOD_STATUSES}
    judged = [_as_candidate(c, superseded=c["candidate_id"] in refined) for c in candidates]
    decision = decide(judged, rule.policy, window_id=window, seed=rule.seed, reference=reference)
    set_hash = candidate_set_hash(candidates)
    shared = {
        "decision_id": decision_id(window, rule.recipe_id, set_hash, reference),
        "window_id": window,
        "recipe_id": candidates[0]["recipe_id"],
        "policy_recipe_id": rule.recipe_id,
        "candidate_set_sha256": set_hash,
        "reference_sha256": None if reference is None else hashlib.sha256(reference.encode()).hexdigest(),
        "policy": rule.policy,
        "decided_by": "policy",
        "run_id": run_id,
        "created_at": now,
    }
    return [
        {
            **shared,
            "candidate_id": verdict.candidate_id,
            "action": verdict.action,
            "reason_code": str(verdict.reason_code),
            "rank": verdict.rank,
            "score": verdict.score,
            "evidence": verdict.evidence,
        }
        for verdict in decision.verdicts
    ]


def candidate_set_hash(candidates: Sequence[Row]) -> str:
    """Identify the set of candidates that a decision considered, whatever their order."""
    return ids.digest(*sorted(str(c["candidate_id"]) for c in candidates))


def decision_id(window: WindowId, policy_recipe: RecipeId, set_hash: str, reference: str | None) -> str:
    """Identify a policy's decision: deciding the same again gives the same id, and no new row."""
    return "d" + ids.digest(window, policy_recipe, set_hash, *(() if reference is None else (reference,)))


def _as_candidate(row: Row, *, superseded: bool) -> Candidate:
    return Candidate(
        candidate_id=str(row["candidate_id"]),
        text=str(row["text"] or ""),
        status=str(row["status"]),
        sample_index=int(str(row["sample_index"])),
        origin=SUPERSEDED if superseded else str(row["origin"]),
    )
