import pytest

from caption_assets.retention import GATES, POLICIES, Candidate, GateReason, Parameter, decide
from caption_assets.retention.gates import Gate, first_failure

GOOD = Candidate("good", "a red car turns left", sample_index=9)

BAD = [
    (Candidate("x", "", "error"), "GATE_ERROR", "error"),
    (Candidate("x", "half a caption", "error"), "GATE_ERROR", "error"),
    (Candidate("x", "I cannot describe this.", "refused"), "GATE_REFUSED", "refused"),
    (Candidate("x", "", "empty"), "GATE_EMPTY", "empty"),
    (Candidate("x", "", "ok"), "GATE_EMPTY", "empty"),
    (Candidate("x", " \n\t\u3000", "ok"), "GATE_EMPTY", "empty"),
    (Candidate("x", " ", "truncated"), "GATE_EMPTY", "empty"),
    (Candidate("x", "first stage", origin="superseded"), "GATE_SUPERSEDED", "superseded"),
]


@pytest.mark.parametrize(("bad", "code", "gate"), BAD)
@pytest.mark.parametrize("policy", POLICIES)
def test_a_gate_drops_its_candidate_under_every_policy(bad: Candidate, code: str, gate: str, policy: str) -> None:
    decision = decide([bad, GOOD], policy, window_id="w1", reference="a car turns")
    dropped, kept = decision.verdicts
    assert (dropped.action, dropped.reason_code, dropped.rank, dropped.score) == ("drop", code, None, None)
    assert dropped.evidence["gate"] == gate
    assert (kept.action, kept.rank) == ("keep", 1)
    assert kept.evidence["valid"] == 1


@pytest.mark.parametrize(("bad", "code", "gate"), BAD)
@pytest.mark.parametrize("policy", POLICIES)
def test_a_window_with_only_bad_candidates_keeps_none_and_says_why(
    bad: Candidate, code: str, gate: str, policy: str
) -> None:
    decision = decide([bad], policy, window_id="w1")
    assert (decision.status, decision.kept, decision.agreement) == ("none_valid", (), None)
    assert decision.verdicts[0].reason_code == code


def test_truncated_is_not_a_gate() -> None:
    assert first_failure(Candidate("x", "a dog runs and", "truncated"), {}, GATES) is None


def test_the_first_gate_that_fails_names_the_reason() -> None:
    failure = first_failure(Candidate("x", "", "error", origin="superseded"), {}, GATES)
    assert failure is not None
    assert failure.gate.reason is GateReason.GATE_ERROR


def test_an_unknown_status_is_refused_with_the_allowed_ones() -> None:
    with pytest.raises(ValueError, match="'done'; allowed: ok, truncated, empty, refused, error"):
        Candidate("x", "a dog", "done")


def test_gates_have_names_and_parameters_of_their_own() -> None:
    names = [gate.name for gate in GATES]
    parameters = [p.name for gate in GATES for p in gate.parameters]
    parameters += [p.name for policy in POLICIES.values() for p in policy.parameters]
    assert len(set(names)) == len(names)
    assert len(set(parameters)) == len(parameters)


def test_a_new_gate_with_a_threshold_is_one_row(monkeypatch: pytest.MonkeyPatch) -> None:
    few = Parameter("gate_min_characters", int, 5, "Fewest characters.", 0, 100)
    short = Gate(
        "short",
        GateReason.GATE_EMPTY,
        lambda c, p: {"characters": len(c.text)} if len(c.text) < int(str(p["gate_min_characters"])) else None,
        (few,),
    )
    gates = (*GATES, short)
    monkeypatch.setattr("caption_assets.retention.decision.GATES", gates)
    dogs = [Candidate("a", "a dog"), Candidate("b", "dog", sample_index=1)]
    assert decide(dogs, "all", window_id="w1").kept == ("a",)
    assert decide(dogs, "all", window_id="w1", gate_min_characters=3).kept == ("a", "b")
