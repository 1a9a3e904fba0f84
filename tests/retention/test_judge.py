"""The policy `judge`: what was answered in both orders, counted; nobody is asked."""

import json
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caption_assets.retention import Candidate, Comparison, decide

NAMES = ("k1", "k2", "k3")
Answers = dict[tuple[str, str], bool | None]
"""For (first, second): whether the first was chosen; None where neither was named."""


def candidates(answers: Answers, texts: tuple[str, ...] = ("a dog", "a cat", "a bird")) -> list[Candidate]:
    found: dict[str, list[Comparison]] = {name: [] for name in NAMES}
    for (first, second), chosen in answers.items():
        found[first].append(Comparison(second, "first", chosen))
        found[second].append(Comparison(first, "second", None if chosen is None else not chosen))
    return [
        Candidate(name, text, sample_index=index, comparisons=tuple(found[name]))
        for index, (name, text) in enumerate(zip(NAMES, texts, strict=True))
    ]


def preferring(*order: str) -> Answers:
    return {(a, b): order.index(a) < order.index(b) for a, b in permutations(NAMES, 2)}


@given(st.permutations(NAMES))
def test_the_candidate_that_beats_all_others_in_both_orders_is_kept(order: list[str]) -> None:
    decision = decide(candidates(preferring(*order)), "judge", window_id="w")
    by_rank = sorted(decision.verdicts, key=lambda verdict: verdict.rank or 0)
    assert [verdict.candidate_id for verdict in by_rank] == order
    assert [verdict.score for verdict in by_rank] == [1, 0.5, 0]
    assert [str(verdict.reason_code) for verdict in by_rank] == [
        "PREFERRED_BY_JUDGE", "LESS_PREFERRED_BY_JUDGE", "LESS_PREFERRED_BY_JUDGE",
    ]  # fmt: skip
    assert json.loads(json.dumps(by_rank[0].evidence))["preferred"] == 1


def test_a_judge_that_always_takes_the_first_has_said_nothing() -> None:
    decision = decide(candidates(dict.fromkeys(permutations(NAMES, 2), True)), "judge > longest", window_id="w")
    assert {verdict.score for verdict in decision.verdicts} == {0.5}
    assert decision.kept == ("k3",), "the next policy of the chain decides: `a bird` has the most letters"


def test_an_answer_that_names_neither_counts_for_neither() -> None:
    answers = {**preferring("k2", "k1", "k3"), ("k2", "k1"): None, ("k1", "k2"): None}
    assert decide(candidates(answers), "judge", window_id="w").kept == ("k1",)
    half: Answers = {("k2", "k3"): True}
    decision = decide(candidates(half), "judge", window_id="w")
    scores = {verdict.candidate_id: verdict.score for verdict in decision.verdicts}
    assert scores == {"k1": None, "k2": 0.5, "k3": 0.5}, "one order alone says nothing either"


def test_what_was_not_judged_ranks_behind_and_says_so() -> None:
    decision = decide(candidates({}), "judge", window_id="w")
    assert decision.kept == ("k1",)
    assert {str(verdict.reason_code) for verdict in decision.verdicts} >= {"NOT_JUDGED"}
    only_two = {pair: chosen for pair, chosen in preferring("k3", "k2", "k1").items() if "k1" not in pair}
    verdicts = decide(candidates(only_two), "judge", window_id="w").verdicts
    assert [verdict.rank for verdict in verdicts] == [3, 2, 1]
    assert verdicts[0].reason_code == "NOT_JUDGED"


@pytest.mark.parametrize("seed", range(3))
def test_comparisons_with_what_a_gate_dropped_do_not_count(seed: int) -> None:
    made = candidates(preferring("k3", "k1", "k2"), ("a dog", "a cat", "I'm sorry, I cannot describe this."))
    decision = decide(made[seed:] + made[:seed], "judge", window_id="w")
    assert decision.kept == ("k1",)
    evidence = {verdict.candidate_id: verdict.evidence for verdict in decision.verdicts}
    assert evidence["k1"]["compared_with"] == 1
