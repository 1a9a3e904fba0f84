"""Properties that hold for every policy and every set of candidates."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caption_assets.retention import POLICIES, Candidate, Decision, decide

CHAINS = (
    *POLICIES,
    "consensus > longest",
    "all > consensus > random_any",
    "similar_one_simhash > first",
    "longest > first",
)

TEXTS = st.one_of(
    st.sampled_from(
        ["a dog runs", "a dog  runs", "A dog sits.", "一只狗", "一只猫在跑", "", " ", "dog", "a red car turns left"]
    ),
    st.text(max_size=30),
)


@st.composite
def candidate_lists(draw: st.DrawFn) -> list[Candidate]:
    ids = draw(st.lists(st.text(min_size=1, max_size=4), unique=True, max_size=7))
    return [
        Candidate(
            candidate_id,
            draw(TEXTS),
            draw(st.sampled_from(["ok", "ok", "ok", "truncated", "empty", "refused", "error"])),
            draw(st.integers(-1, 4)),
            draw(st.sampled_from(["model", "model", "original", "imported"])),
        )
        for candidate_id in ids
    ]


CASES = {
    "candidates": candidate_lists(),
    "policy": st.sampled_from(CHAINS),
    "window_id": st.text(min_size=1, max_size=5),
    "seed": st.integers(0, 2**32 - 1),
    "reference": st.none() | TEXTS,
}


def valid_ids(candidates: list[Candidate]) -> set[str]:
    return {c.candidate_id for c in candidates if c.status in ("ok", "truncated") and c.text.strip()}


def decided(case: dict[str, object]) -> Decision:
    return decide(**case)  # type: ignore[arg-type]


@given(**CASES)
def test_every_candidate_has_exactly_one_verdict_in_its_place(candidates: list[Candidate], **case: object) -> None:
    decision = decided({"candidates": candidates, **case})
    assert [v.candidate_id for v in decision.verdicts] == [c.candidate_id for c in candidates]


@given(**CASES)
def test_kept_is_one_or_all_valid_or_none(candidates: list[Candidate], policy: str, **case: object) -> None:
    decision = decided({"candidates": candidates, "policy": policy, **case})
    valid = valid_ids(candidates)
    assert len(decision.kept) == (len(valid) if policy.startswith("all") else min(1, len(valid)))
    assert set(decision.kept) <= valid
    assert decision.status == ("kept" if valid else "none_valid" if candidates else "no_candidates")


@given(**CASES)
def test_valid_candidates_rank_1_to_n_without_gaps_and_the_kept_come_first(
    candidates: list[Candidate], **case: object
) -> None:
    decision = decided({"candidates": candidates, **case})
    valid = valid_ids(candidates)
    ranked = {v.candidate_id: v.rank for v in decision.verdicts if v.rank is not None}
    assert set(ranked) == valid
    assert sorted(ranked.values()) == list(range(1, len(valid) + 1))
    assert [ranked[kept] for kept in decision.kept] == list(range(1, len(decision.kept) + 1))


@given(data=st.data(), **CASES)
def test_the_order_in_which_candidates_come_changes_nothing(
    data: st.DataObject, candidates: list[Candidate], **case: object
) -> None:
    shuffled = data.draw(st.permutations(candidates))
    one = decided({"candidates": candidates, **case})
    other = decided({"candidates": shuffled, **case})
    assert one.kept == other.kept
    assert one.agreement == other.agreement
    assert {v.candidate_id: v for v in one.verdicts} == {v.candidate_id: v for v in other.verdicts}


@given(**CASES)
def test_the_same_input_gives_the_same_decision(**case: object) -> None:
    assert decided(case) == decided(case)


@given(**CASES)
def test_evidence_survives_json_and_reasons_are_plain_strings_there(**case: object) -> None:
    for verdict in decided(case).verdicts:
        assert json.loads(json.dumps(verdict.evidence, allow_nan=False)) == verdict.evidence
        assert json.loads(json.dumps(verdict.reason_code)) == verdict.reason_code.value


@given(**CASES)
def test_scores_and_agreement_stay_in_range(policy: str, **case: object) -> None:
    decision = decided({"policy": policy, **case})
    assert decision.agreement is None or 0 <= decision.agreement <= 1
    for verdict in decision.verdicts:
        assert verdict.score is None or verdict.score >= 0
        if verdict.score is not None and not policy.startswith("longest"):
            assert verdict.score <= 1


@given(**CASES)
def test_a_truncated_candidate_is_kept_alone_only_where_every_valid_one_is_truncated(
    candidates: list[Candidate], policy: str, **case: object
) -> None:
    decision = decided({"candidates": candidates, "policy": policy, **case})
    truncated = {c.candidate_id for c in candidates if c.status == "truncated"}
    if decision.kept and decision.kept[0] in truncated:
        assert valid_ids(candidates) <= truncated


@given(**CASES)
def test_a_duplicate_names_a_valid_candidate_with_the_same_text(candidates: list[Candidate], **case: object) -> None:
    texts = {c.candidate_id: c.text.strip() for c in candidates}
    for verdict in decided({"candidates": candidates, **case}).verdicts:
        original = verdict.evidence.get("duplicate_of")
        if original is not None:
            assert original in valid_ids(candidates)
            assert texts[str(original)] == texts[verdict.candidate_id]


def key_from_evidence(policy: str, evidence: dict[str, Any]) -> tuple[float, ...]:
    """What the documentation of each policy says, read back from the evidence alone; lower is better."""
    if "draw" in evidence:
        return ((evidence["index"] - evidence["draw"]) % evidence["n"],)
    if policy == "similar_one_simhash":
        is_original = evidence.get("origin") == "original"
        if evidence["method"] == "simhash64":
            distance = (int(evidence["simhash"], 16) ^ int(evidence["reference_simhash"], 16)).bit_count()
            assert distance == evidence["distance"]
            return (is_original, distance)
        return (is_original, -evidence["similarity"])
    if policy == "longest":
        below = max(evidence["min_words"] - evidence["words"], 0)
        above = max(evidence["words"] - (evidence["max_words"] or evidence["words"]), 0)
        return (below + above, -evidence["words"], -evidence["characters"])
    if policy == "consensus":
        return (-(evidence["mean_similarity"] or 0),)
    return ()


@given(
    **{**CASES, "policy": st.sampled_from(list(POLICIES))}, low=st.integers(0, 3), high=st.none() | st.integers(3, 5)
)
def test_every_rank_can_be_computed_from_the_evidence_alone(
    policy: str, low: int, high: int | None, **case: object
) -> None:
    params = {"min_words": low, "max_words": high} if policy == "longest" else {}
    decision = decided({"policy": policy, **case, **params})
    keys = {}
    for verdict in decision.verdicts:
        if verdict.rank is not None:
            evidence: dict[str, Any] = json.loads(json.dumps(verdict.evidence))
            place = (evidence["sample_index"], verdict.candidate_id)
            keys[verdict.rank] = ("truncated" in evidence, key_from_evidence(policy, evidence), place)
    assert sorted(keys, key=lambda rank: keys[rank]) == list(range(1, len(keys) + 1))


@pytest.mark.parametrize("policy", CHAINS)
def test_no_candidates_is_a_decision_without_verdicts(policy: str) -> None:
    decision = decide([], policy, window_id="w1")
    assert (decision.verdicts, decision.kept, decision.status, decision.agreement) == ((), (), "no_candidates", None)


def test_an_id_that_occurs_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="window w7 has more than one candidate with the id k1"):
        decide([Candidate("k1", "a"), Candidate("k1", "b")], "all", window_id="w7")


def test_a_decision_is_the_same_in_another_process_with_other_string_hashes() -> None:
    code = (
        "from caption_assets.retention import Candidate, decide;"
        "c = [Candidate(f'k{i}', t, sample_index=i) for i, t in enumerate(['a dog', 'the dog sits', 'dog a cat'])];"
        "print([repr(decide(c, p, window_id='w1', reference='a dog sits')) for p in"
        " ('consensus', 'random_any', 'similar_one_simhash', 'longest')])"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(printed) == 1


def test_retention_needs_nothing_but_the_standard_library() -> None:
    code = (
        "import sys; import caption_assets.retention;"
        "print({'dagster', 'duckdb', 'numpy', 'polars', 'pydantic'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
