"""Gates: what drops a candidate before any policy looks at it.

A gate never deletes: the candidate keeps its row and gets a verdict without a rank. To add a gate, add its reason, its
function and its row in `GATES`; thresholds are `Parameter`s of that row, and `decide` accepts them by name.

A truncated candidate passes: it is valid, but ranks behind every one that is not (see `decision.decide`).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from caption_assets.retention.model import SUPERSEDED, Candidate, Evidence, ParameterValue, ReasonCode
from caption_assets.retention.parameters import Parameter


class GateReason(ReasonCode):
    """Why a gate dropped a candidate."""

    GATE_ERROR = (
        "GATE_ERROR",
        "Its generation failed, so there is no caption to judge; the candidate row has the error.",
    )
    GATE_REFUSED = "GATE_REFUSED", "The model refused to describe this window."
    GATE_EMPTY = "GATE_EMPTY", "Its text is empty or only white space."
    GATE_SUPERSEDED = "GATE_SUPERSEDED", "A later stage or attempt replaces it, and that one was judged instead."


Check = Callable[[Candidate, Mapping[str, ParameterValue]], Evidence | None]
"""Returns None when the candidate passes, else the evidence against it."""


@dataclass(frozen=True)
class Gate:
    """One test that every candidate must pass. `parameters` have names that no other gate or policy uses."""

    name: str
    reason: GateReason
    check: Check
    parameters: tuple[Parameter, ...] = ()


def _error(candidate: Candidate, _: Mapping[str, ParameterValue]) -> Evidence | None:
    return {"status": candidate.status} if candidate.status == "error" else None


def _refused(candidate: Candidate, _: Mapping[str, ParameterValue]) -> Evidence | None:
    return {"status": candidate.status} if candidate.status == "refused" else None


def _empty(candidate: Candidate, _: Mapping[str, ParameterValue]) -> Evidence | None:
    if candidate.status != "empty" and candidate.text.strip():
        return None
    return {"status": candidate.status, "characters": len(candidate.text)}


def _superseded(candidate: Candidate, _: Mapping[str, ParameterValue]) -> Evidence | None:
    return {"origin": candidate.origin} if candidate.origin == SUPERSEDED else None


GATES: tuple[Gate, ...] = (
    Gate("error", GateReason.GATE_ERROR, _error),
    Gate("refused", GateReason.GATE_REFUSED, _refused),
    Gate("empty", GateReason.GATE_EMPTY, _empty),
    Gate("superseded", GateReason.GATE_SUPERSEDED, _superseded),
)
"""All gates, in the order in which they are asked; the first that fails a candidate names the reason."""


@dataclass(frozen=True)
class GateFailure:
    """The gate that stopped a candidate, and what it saw."""

    gate: Gate
    evidence: Evidence


def first_failure(
    candidate: Candidate, parameters: Mapping[str, ParameterValue], gates: Iterable[Gate]
) -> GateFailure | None:
    """Return the first of `gates` that `candidate` fails, or None when it is valid."""
    for gate in gates:
        evidence = gate.check(candidate, parameters)
        if evidence is not None:
            return GateFailure(gate, evidence)
    return None
