"""The decision over a window: gates first, then the policy or chain of policies, then one verdict per candidate."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from caption_assets.retention.gates import (
    GATE_PREFIX,
    GATES,
    GateFailure,
    GateReason,
    first_failure,
    first_flaw,
    gate_parameters,
)
from caption_assets.retention.model import (
    Action,
    Candidate,
    Decision,
    Evidence,
    JsonValue,
    ParameterValue,
    ReasonCode,
    Verdict,
)
from caption_assets.retention.parameters import check_parameters
from caption_assets.retention.policies import Contest, Measure, Policy, PolicyReason, parse_policy, policy_name

REASONS: Mapping[ReasonCode, str] = {code: code.sentence for code in (*GateReason, *PolicyReason)}
"""What each reason code means, in a sentence for people."""


def decide(
    candidates: Iterable[Candidate],
    policy: str,
    *,
    window_id: str,
    seed: int = 0,
    reference: str | None = None,
    **params: object,
) -> Decision:
    """Return one verdict per candidate, in the order of `candidates`.

    policy: a name of `POLICIES`, or a chain such as "consensus > longest" in which each policy breaks the exact ties of
        those before it. The first policy says whether only the best or all valid candidates are kept.
    seed: of `random_any`; the same seed draws independently for each window id.
    reference: the original caption, for `similar_one_simhash`.
    params: parameters of the named policies (`POLICIES[name].parameters`) and of the gates (`GATES`).

    The rules, strongest first:

    * a candidate that fails a gate is dropped and has no rank;
    * truncated candidates rank behind all others, so one of them wins only where no other kind is valid;
    * of either kind, those that a gate puts behind (`Gate.mode`) rank behind those that it does not;
    * what the policies of the chain measure, one after the other;
    * the canonical order (sample_index, candidate_id).

    So the result does not depend on the order of `candidates`, only on what they are. It is a pure function of its
    arguments: nothing is read, nothing is drawn that could not be drawn again.

    Evidence of a valid candidate: `sample_index`, `valid` (how many there are), `truncated` where it is, `behind` with
    the gate that put it behind, `duplicate_of` (the first valid candidate with the same text, edges stripped), what the
    first policy saw, and under `then` what each later policy of the chain saw, when it was asked. A policy measures the
    complete candidates, the truncated ones and those that a gate put behind each among themselves.
    Evidence of a dropped candidate: `gate` and what the gate saw.

    Raises ValueError for an unknown policy or parameter, a value out of range, and a candidate id that occurs twice.
    """
    chain = parse_policy(policy)
    name = policy_name(chain)
    parameters = resolve_parameters(chain, params)
    given = tuple(candidates)
    _check_ids(given, window_id)

    limits = gate_parameters(params, GATES)
    failures = {c.candidate_id: failure for c in given if (failure := first_failure(c, limits, GATES)) is not None}
    valid = tuple(
        sorted((c for c in given if c.candidate_id not in failures), key=lambda c: (c.sample_index, c.candidate_id))
    )
    flaws = {c.candidate_id: flaw for c in valid if (flaw := first_flaw(c, limits, GATES)) is not None}
    contest = Contest(valid, valid, window_id, seed, reference, parameters)
    verdicts = {failed: _gate_verdict(failed, failure) for failed, failure in failures.items()}
    verdicts |= {verdict.candidate_id: verdict for verdict in _judge(contest, chain, flaws)}
    agreements = [p.agreement(contest) for p in chain if p.agreement is not None]
    return Decision(
        window_id=window_id,
        policy=name,
        parameters=parameters,
        seed=seed,
        verdicts=tuple(verdicts[c.candidate_id] for c in given),
        agreement=agreements[0] if agreements else None,
    )


def resolve_parameters(chain: Sequence[Policy], params: Mapping[str, object]) -> dict[str, ParameterValue]:
    """Return every parameter of the policies of `chain`, with defaults, and those of gates that are given; all checked.

    Raises ValueError for an unknown name, a value out of range, and values that contradict each other.
    """
    allowed = [parameter for policy in chain for parameter in policy.parameters]
    of_policies = {name: value for name, value in params.items() if not name.startswith(GATE_PREFIX)}
    resolved = check_parameters(f"policy {policy_name(chain)!r}", allowed, of_policies)
    for policy in chain:
        policy.check(resolved)
    gates = gate_parameters(params, GATES)
    return {**resolved, **{name: gates[name] for name in params if name.startswith(GATE_PREFIX)}}


def _check_ids(candidates: Sequence[Candidate], window_id: str) -> None:
    twice = [name for name, count in Counter(c.candidate_id for c in candidates).items() if count > 1]
    if twice:
        raise ValueError(f"window {window_id} has more than one candidate with the id {', '.join(twice)}")


def _gate_verdict(candidate_id: str, failure: GateFailure) -> Verdict:
    evidence = {"gate": failure.gate.name, **failure.evidence}
    return Verdict(candidate_id, "drop", failure.gate.reason, rank=None, score=None, evidence=evidence)


@dataclass(frozen=True)
class _Ranked:
    """A candidate in its place, with what each policy that was asked about it measured."""

    candidate: Candidate
    path: tuple[tuple[Policy, Measure], ...]


def _judge(contest: Contest, chain: Sequence[Policy], flaws: Mapping[str, GateFailure]) -> list[Verdict]:
    """Return the verdicts over the valid candidates, the best first.

    flaws: what puts a candidate behind the others, by candidate id.
    """

    def class_of(candidate: Candidate) -> tuple[bool, bool]:
        return candidate.status == "truncated", candidate.candidate_id in flaws

    classes = sorted({class_of(candidate) for candidate in contest.valid})
    groups = [[c for c in contest.valid if class_of(c) == each] for each in classes]
    ranked = [entry for group in groups for entry in _rank(group, chain, contest)]
    first_with_text: dict[str, str] = {}
    for candidate in contest.valid:
        first_with_text.setdefault(candidate.text.strip(), candidate.candidate_id)

    verdicts = []
    for index, entry in enumerate(ranked):
        candidate = entry.candidate
        flaw = flaws.get(candidate.candidate_id)
        reason: ReasonCode
        if chain[0].keeps_all:
            reason = entry.path[0][1].won
        elif index == 0:
            reason = PolicyReason.ONLY_CANDIDATE if len(groups[0]) == 1 else _why_won(ranked[0], ranked[1])
        elif class_of(candidate)[0] > classes[0][0]:
            reason = PolicyReason.TRUNCATED
        elif flaw is not None and class_of(candidate) > classes[0]:
            reason = flaw.gate.reason
        else:
            reason = _why_lost(entry, ranked[0])
        original = first_with_text[candidate.text.strip()]
        evidence: Evidence = {
            "sample_index": candidate.sample_index,
            "valid": len(contest.valid),
            **({"truncated": True} if candidate.status == "truncated" else {}),
            **({"behind": {"gate": flaw.gate.name, **flaw.evidence}} if flaw is not None else {}),
            **({"duplicate_of": original} if original != candidate.candidate_id else {}),
            **_path_evidence(entry),
        }
        score = next((m.score for _, m in entry.path if m.score is not None), None)
        action: Action = "keep" if index == 0 or chain[0].keeps_all else "drop"
        verdicts.append(Verdict(candidate.candidate_id, action, reason, rank=index + 1, score=score, evidence=evidence))
    return verdicts


def _rank(group: Sequence[Candidate], chain: Sequence[Policy], contest: Contest) -> list[_Ranked]:
    """Order `group`, given in canonical order, by the chain: each policy measures those that tie so far."""
    if not group or not chain:
        return [_Ranked(candidate, ()) for candidate in group]
    policy, *rest = chain
    measured = list(zip(group, policy.measure(replace(contest, group=group)), strict=True))
    measured.sort(key=lambda pair: pair[1].key, reverse=True)  # stable: a tie stays in canonical order
    ranked = []
    for _, members in groupby(measured, key=lambda pair: pair[1].key):
        tied = {candidate.candidate_id: (candidate, measure) for candidate, measure in members}
        further = rest if len(tied) > 1 else []
        for entry in _rank([candidate for candidate, _ in tied.values()], further, contest):
            measure = tied[entry.candidate.candidate_id][1]
            ranked.append(_Ranked(entry.candidate, ((policy, measure), *entry.path)))
    return ranked


def _why_won(winner: _Ranked, runner_up: _Ranked) -> PolicyReason:
    """Return the reason of the policy that put the winner before the runner-up; of the first, when none did."""
    for (_, mine), (_, other) in zip(winner.path, runner_up.path, strict=False):
        if mine.key != other.key:
            return mine.won
    return winner.path[0][1].won


def _why_lost(loser: _Ranked, winner: _Ranked) -> PolicyReason:
    """Return the reason of the policy that put the loser behind the winner, or that none did."""
    for (_, mine), (_, other) in zip(loser.path, winner.path, strict=False):
        if mine.key != other.key:
            return mine.lost
    return PolicyReason.TIE_LATER_INDEX


def _path_evidence(entry: _Ranked) -> Evidence:
    (_, head), *later = entry.path
    then: dict[str, JsonValue] = {policy.name: measure.evidence for policy, measure in later}
    return {**head.evidence, **({"then": then} if then else {})}
