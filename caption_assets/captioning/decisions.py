"""From the candidates of a window to rows of retention decisions.

A decision is a pure function of the candidates, what is known around them, the policy, its parameters and the seed;
deciding again never calls a model. A first-stage caption whose second stage passes the gates is set aside with the
reason GATE_SUPERSEDED.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from datetime import datetime
from typing import Self

from caption_assets import ids
from caption_assets.captioning.tasks import GOOD_STATUSES
from caption_assets.ids import RecipeId, WindowId
from caption_assets.ledger.schema import CandidateRow, DecisionRow, as_json
from caption_assets.retention import GATES, Candidate, Comparison, Echo, decide
from caption_assets.retention.gates import first_failure, gate_parameters
from caption_assets.retention.model import MODEL, SUPERSEDED
from caption_assets.settings import Settings
from caption_assets.settings.groups import GateSettings, RetentionSettings
from caption_assets.settings.recipes import retention_recipe


@dataclass(frozen=True)
class RetentionRule:
    """A retention recipe and the settings that it names."""

    recipe_id: RecipeId
    retention: RetentionSettings
    gates: GateSettings

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return the rule of `settings`."""
        return cls(retention_recipe(settings).recipe_id, settings.retention, settings.gates)


@dataclass(frozen=True)
class Surroundings:
    """What is known around the candidates of a window.

    prompts: what their model was asked. echoes: by candidate, the other windows of the clip with the same words.
    comparisons: by candidate, what a judge answered about it.
    """

    prompts: tuple[str, ...] = ()
    echoes: Mapping[str, tuple[Echo, ...]] = field(default_factory=dict)
    comparisons: Mapping[str, tuple[Comparison, ...]] = field(default_factory=dict)

    @property
    def sha256(self) -> str | None:
        """What identifies all that may change while the candidates and their recipe stay; None where there is none."""
        said = [
            *sorted((name, *astuple(echo)) for name, found in self.echoes.items() for echo in found),
            *sorted((name, *map(str, astuple(each))) for name, found in self.comparisons.items() for each in found),
        ]
        return ids.digest(*said) if said else None


def decision_rows(
    window: WindowId,
    candidates: Sequence[CandidateRow],
    rule: RetentionRule,
    reference: str | None,
    run_id: str,
    now: datetime,
    around: Surroundings = Surroundings(),
) -> list[DecisionRow]:
    """Judge `candidates`, rows of one window and one caption recipe, and return a row for each.

    reference is the window's original caption, where it has one.
    """
    if not candidates:
        return []
    decision = decide(
        _as_candidates(candidates, rule, around),
        rule.retention.keep_candidate_mode,
        window_id=window,
        seed=rule.retention.retention_seed,
        reference=reference,
        **rule.gates.parameters,
    )
    set_hash = candidate_set_hash([row.candidate_id for row in candidates])
    decision_id_ = decision_id(window, rule.recipe_id, set_hash, reference, around.sha256)
    return [
        DecisionRow(
            decision_id=decision_id_,
            candidate_id=verdict.candidate_id,
            window_id=window,
            recipe_id=candidates[0].recipe_id,
            policy_recipe_id=rule.recipe_id,
            candidate_set_sha256=set_hash,
            reference_sha256=None if reference is None else hashlib.sha256(reference.encode()).hexdigest(),
            action=verdict.action,
            reason_code=str(verdict.reason_code),
            rank=verdict.rank,
            score=verdict.score,
            evidence=as_json(verdict.evidence),
            policy=rule.retention.keep_candidate_mode,
            decided_by="policy",
            run_id=run_id,
            created_at=now,
        )
        for verdict in decision.verdicts
    ]


def valid_candidates(
    candidates: Sequence[CandidateRow], rule: RetentionRule, around: Surroundings
) -> list[tuple[str, str]]:
    """Return the id and text of each of `candidates`, as `decision_rows` takes them, that passes the gates."""
    limits = gate_parameters(rule.gates.parameters, GATES)
    judged = _as_candidates(candidates, rule, around)
    return [(c.candidate_id, c.text) for c in judged if first_failure(c, limits, GATES) is None]


def _as_candidates(candidates: Sequence[CandidateRow], rule: RetentionRule, around: Surroundings) -> list[Candidate]:
    """Return `candidates` as retention takes them; those with a second stage that passes the gates are superseded."""
    plain = {c.candidate_id: _as_candidate(c, around) for c in candidates}
    limits = gate_parameters(rule.gates.parameters, GATES)
    refined = {
        c.parent_candidate_id
        for c in candidates
        if c.stage == 2 and c.status in GOOD_STATUSES and first_failure(plain[c.candidate_id], limits, GATES) is None
    }
    return [replace(c, origin=SUPERSEDED) if c.candidate_id in refined else c for c in plain.values()]


def candidate_set_hash(candidate_ids: Sequence[str]) -> str:
    """Identify the set of candidates that a decision considered, whatever their order."""
    return ids.digest(*sorted(candidate_ids))


def decision_id(
    window: WindowId, policy_recipe: RecipeId, set_hash: str, reference: str | None, around: str | None = None
) -> str:
    """Identify a policy's decision: deciding the same again gives the same id, and no new row."""
    known = () if reference is None else (reference,)
    return "d" + ids.digest(window, policy_recipe, set_hash, *known, *(() if around is None else ("around", around)))


def _as_candidate(row: CandidateRow, around: Surroundings) -> Candidate:
    return Candidate(
        candidate_id=row.candidate_id,
        text=row.text or "",
        status=row.status,
        sample_index=row.sample_index,
        origin=row.origin,
        prompts=around.prompts if row.origin == MODEL else (),
        echoes=around.echoes.get(row.candidate_id, ()),
        comparisons=around.comparisons.get(row.candidate_id, ()),
    )
