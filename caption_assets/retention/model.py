"""What retention takes and returns: candidates in, one verdict per candidate out.

All of it is plain values. A `Verdict` becomes one row of the ledger's `retention_decisions`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, Self, get_args

CandidateStatus = Literal["ok", "truncated", "empty", "refused", "error"]
Action = Literal["keep", "drop"]
DecisionStatus = Literal["kept", "no_candidates", "none_valid"]
ParameterValue = int | float | str | None
JsonValue = str | int | float | bool | None | Mapping[str, "JsonValue"]
Evidence = Mapping[str, JsonValue]

MODEL = "model"
ORIGINAL = "original"
SUPERSEDED = "superseded"
"""Origins that retention treats apart; any other origin competes like a model's caption."""


class ReasonCode(StrEnum):
    """A code that the ledger stores, with the sentence that explains it to a person.

    The codes stand next to what sets them: `GateReason` in gates.py, `PolicyReason` in policies.py.
    """

    sentence: str

    def __new__(cls, code: str, sentence: str) -> Self:
        """Create the member `code`; its sentence is its docstring too."""
        member = str.__new__(cls, code)
        member._value_ = code
        member.sentence = member.__doc__ = sentence
        return member


@dataclass(frozen=True)
class Echo:
    """Another window of the same clip, for which the same words were said.

    distance: how different the two windows look, the mean share of perceptual hash bits that differ, 0 to 1.
    """

    window_id: str
    distance: float
    is_neighbour: bool


@dataclass(frozen=True)
class Comparison:
    """What a judge answered about a candidate and another one.

    against: the other candidate. place: "first" or "second", where the judge read this one. won: whether this one was
    chosen; None where the judge named neither.
    """

    against: str
    place: str
    won: bool | None


@dataclass(frozen=True)
class Candidate:
    """A caption that competes for a window.

    candidate_id: unique within the window.
    text: the caption; "" where the status says why there is none.
    status: how its generation ended: ok, truncated (cut off at the token limit), empty, refused, error.
    sample_index: the model's own numbering, from 0; any integer is accepted, so an original may come before or after.
    origin: who wrote it: "model", "original" (the caption that came with the video), "superseded" (a newer stage or
        attempt of the same sample replaces it), or another name.
    prompts: what its author was asked, word for word; empty where nothing was, or nothing is known.
    echoes: the other windows of its clip with a candidate of the same words.
    comparisons: what a judge answered about it, for the policy `judge`.

    Raises ValueError for an unknown status.
    """

    candidate_id: str
    text: str
    status: str = "ok"
    sample_index: int = 0
    origin: str = MODEL
    prompts: tuple[str, ...] = ()
    echoes: tuple[Echo, ...] = ()
    comparisons: tuple[Comparison, ...] = ()

    def __post_init__(self) -> None:
        if self.status not in get_args(CandidateStatus):
            allowed = ", ".join(get_args(CandidateStatus))
            raise ValueError(f"candidate {self.candidate_id} has the status {self.status!r}; allowed: {allowed}")


@dataclass(frozen=True)
class Verdict:
    """What was decided about one candidate, and why.

    rank: 1 is the best; the valid candidates have 1 to n without gaps. None when a gate dropped the candidate.
    score: what the policy measured, higher is better, in the policy's own unit; None where it measures nothing. In a
        chain it is the score of the first policy that measured something.
    evidence: JSON-serialisable; with the evidence of the other verdicts, the rank can be computed again from it.
    """

    candidate_id: str
    action: Action
    reason_code: ReasonCode
    rank: int | None
    score: float | None
    evidence: Evidence


@dataclass(frozen=True)
class Decision:
    """The verdicts over all candidates of one window, in the order in which the candidates were given.

    policy: the policy or chain in its canonical spelling, such as "consensus > longest".
    parameters: every parameter of the policies, defaults included, and those of gates that were given.
    agreement: how much the valid candidates say the same, 0 to 1 (see `policies.agreement`). None without the
        consensus policy, and with fewer than two valid candidates: a caption alone agrees with nothing.
    """

    window_id: str
    policy: str
    parameters: Mapping[str, ParameterValue]
    seed: int
    verdicts: tuple[Verdict, ...]
    agreement: float | None = None

    @property
    def kept(self) -> tuple[str, ...]:
        """The ids of the kept candidates, the best first."""
        kept = (verdict for verdict in self.verdicts if verdict.action == "keep" and verdict.rank is not None)
        return tuple(verdict.candidate_id for verdict in sorted(kept, key=lambda verdict: verdict.rank or 0))

    @property
    def status(self) -> DecisionStatus:
        """`kept`, `no_candidates` (none was given) or `none_valid` (gates dropped every one)."""
        if not self.verdicts:
            return "no_candidates"
        return "kept" if self.kept else "none_valid"
