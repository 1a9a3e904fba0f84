import hashlib
from dataclasses import replace
from typing import Any

import pytest

from caption_assets.retention import POLICIES, REASONS, Candidate, Decision, GateReason, PolicyReason, decide


def captions(*texts: str) -> list[Candidate]:
    return [Candidate(f"k{i}", text, sample_index=i) for i, text in enumerate(texts)]


def reasons(decision: Decision) -> list[str]:
    return [str(verdict.reason_code) for verdict in decision.verdicts]


def ranks(decision: Decision) -> list[int | None]:
    return [verdict.rank for verdict in decision.verdicts]


# random_any


@pytest.mark.parametrize("seed", [0, 1, 7, 2**32 - 1])
@pytest.mark.parametrize("window_id", ["w1", "w" + "0" * 32, "w" + "f" * 32])
@pytest.mark.parametrize("n", [2, 3, 8])
def test_random_any_draws_the_digest_of_seed_and_window_modulo_n(seed: int, window_id: str, n: int) -> None:
    expected = int(hashlib.sha256(f"{seed}\x1f{window_id}".encode()).hexdigest()[:32], 16) % n
    decision = decide(captions(*"abcdefgh"[:n]), "random_any", window_id=window_id, seed=seed)
    assert decision.kept == (f"k{expected}",)
    kept = decision.verdicts[expected]
    assert (kept.reason_code, kept.score) == ("RANDOM_DRAW", None)
    for index, verdict in enumerate(decision.verdicts):
        drawn = {key: verdict.evidence[key] for key in ("seed", "n", "draw", "index")}
        assert drawn == {"seed": seed, "n": n, "draw": expected, "index": index}
    assert sorted(reasons(decision)) == ["NOT_DRAWN"] * (n - 1) + ["RANDOM_DRAW"]


def test_random_any_draws_every_candidate_about_equally_often() -> None:
    windows = 4_000
    counts = dict.fromkeys(("k0", "k1", "k2", "k3"), 0)
    for window in range(windows):
        counts[decide(captions(*"abcd"), "random_any", window_id=f"w{window}").kept[0]] += 1
    assert all(abs(count - windows / 4) < 150 for count in counts.values())  # 5.5 standard deviations


def test_random_any_draws_among_the_complete_candidates_only() -> None:
    pool = [*captions("a", "b"), Candidate("cut", "c", "truncated", sample_index=-1)]
    for window in range(20):
        decision = decide(pool, "random_any", window_id=f"w{window}")
        assert decision.kept[0] in ("k0", "k1")
        assert decision.verdicts[0].evidence["n"] == 2


# first, all


def test_first_keeps_the_lowest_sample_index_then_the_lowest_id() -> None:
    candidates = [Candidate("b", "x", sample_index=1), Candidate("a", "y", sample_index=1), Candidate("z", "w")]
    assert reasons(decide(candidates, "first", window_id="w1")) == ["NOT_FIRST", "NOT_FIRST", "FIRST"]
    assert decide(candidates[:2], "first", window_id="w1").kept == ("a",)


def test_all_keeps_every_valid_candidate_and_notes_duplicates() -> None:
    candidates = [*captions("a dog", "a cat", " a dog\n"), Candidate("bad", "", "error", sample_index=3)]
    decision = decide(candidates, "all", window_id="w1")
    assert decision.kept == ("k0", "k1", "k2")
    assert reasons(decision) == ["KEPT_ALL", "KEPT_ALL", "KEPT_ALL", "GATE_ERROR"]
    assert [v.evidence.get("duplicate_of") for v in decision.verdicts] == [None, None, "k0", None]


def test_all_keeps_truncated_candidates_behind_the_complete_ones() -> None:
    candidates = [Candidate("cut", "a dog and a", "truncated"), Candidate("whole", "a dog", sample_index=1)]
    decision = decide(candidates, "all", window_id="w1")
    assert decision.kept == ("whole", "cut")
    assert decision.verdicts[0].evidence["truncated"] is True


# longest


def test_longest_keeps_the_most_words() -> None:
    decision = decide(
        captions("a dog", "a dog runs fast", "extraordinarily counterproductive"), "longest", window_id="w"
    )
    assert reasons(decision) == ["SHORTER", "LONGEST", "SHORTER"]
    assert [v.score for v in decision.verdicts] == [2, 4, 2]
    assert ranks(decision) == [3, 1, 2]  # with the same number of words, characters count


def test_longest_outside_the_length_band_loses() -> None:
    decision = decide(
        captions("one", "one two", "one two three four"), "longest", window_id="w", min_words=2, max_words=3
    )
    assert reasons(decision) == ["OUTSIDE_LENGTH_BAND", "LONGEST", "OUTSIDE_LENGTH_BAND"]


def test_with_none_inside_the_length_band_the_nearest_one_wins() -> None:
    decision = decide(captions("one", "1 2 3 4 5 6 7 8"), "longest", window_id="w", min_words=3, max_words=4)
    assert reasons(decision) == ["NEAREST_TO_LENGTH_BAND", "OUTSIDE_LENGTH_BAND"]
    assert [v.evidence["missed_by"] for v in decision.verdicts] == [2, 4]


def test_longest_counts_chinese_characters_as_words() -> None:
    assert decide(captions("a dog runs", "一只狗在公园里跑"), "longest", window_id="w").kept == ("k1",)


# similar_one_simhash


def test_similar_one_simhash_keeps_the_lowest_hamming_distance() -> None:
    reference = "a man walks a dog in the park"
    decision = decide(
        captions("two planes take off at night", "a man walks a dog in the park.", "a cat sleeps on a red sofa"),
        "similar_one_simhash",
        window_id="w1",
        reference=reference,
    )
    assert reasons(decision) == ["FARTHER_FROM_REFERENCE", "CLOSEST_TO_REFERENCE", "FARTHER_FROM_REFERENCE"]
    kept = decision.verdicts[1]
    distance = (11324782352960742615 ^ 11343869329081793750).bit_count()
    assert kept.evidence["method"] == "simhash64"
    assert kept.evidence["distance"] == distance
    assert int(str(kept.evidence["simhash"]), 16) == 11343869329081793750
    assert int(str(kept.evidence["reference_simhash"]), 16) == 11324782352960742615
    assert kept.score == 1 - distance / 64


def test_the_lowest_index_wins_a_tie_in_hamming_distance() -> None:
    candidates = captions("a b c", "x y z", "X Y Z", "x  y z")
    decision = decide(candidates, "similar_one_simhash", window_id="w1", reference="x y z")
    assert reasons(decision) == [
        "FARTHER_FROM_REFERENCE", "CLOSEST_TO_REFERENCE", "TIE_LATER_INDEX", "TIE_LATER_INDEX",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("reference", "texts", "winner"),
    [
        ("一只狗在公园里", ("一辆红色汽车", "一只狗在公园里跑", "夜晚的城市"), "k1"),
        ("a dog runs in the park", ("dogs", "a dog runs in a park"), "k1"),
        ("dog", ("a red car", "a dog sits"), "k1"),
    ],
)
def test_fewer_than_two_tokens_anywhere_compares_all_by_character_3_grams(
    reference: str, texts: tuple[str, ...], winner: str
) -> None:
    decision = decide(captions(*texts), "similar_one_simhash", window_id="w1", reference=reference)
    assert decision.kept == (winner,)
    for verdict in decision.verdicts:
        assert verdict.evidence["method"] == "char3_jaccard"
        assert verdict.evidence["fallback"] == "fewer than two tokens"
        assert verdict.evidence["similarity"] == verdict.score


@pytest.mark.parametrize("reference", [None, "", " \n"])
def test_without_a_reference_similar_one_simhash_draws_like_random_any(reference: str | None) -> None:
    candidates = captions("a dog", "a cat", "a cow")
    decision = decide(candidates, "similar_one_simhash", window_id="w1", seed=3, reference=reference)
    drawn = decide(candidates, "random_any", window_id="w1", seed=3)
    assert decision.kept == drawn.kept
    assert reasons(decision) == reasons(drawn)
    assert all(verdict.evidence["fallback"] == "no reference" for verdict in decision.verdicts)


def test_the_original_does_not_compete_with_the_captions_that_are_compared_with_it() -> None:
    original = Candidate("orig", "a dog runs in the park", sample_index=-1, origin="original")
    generated = captions("a red car turns left", "two dogs run in the park")
    decision = decide([original, *generated], "similar_one_simhash", window_id="w1", reference=original.text)
    assert reasons(decision)[0] == "IS_THE_REFERENCE"
    assert ranks(decision)[0] == 3
    assert decide([original], "similar_one_simhash", window_id="w1", reference=original.text).kept == ("orig",)


# consensus


def test_consensus_keeps_the_medoid_and_reports_the_agreement_of_all_pairs() -> None:
    decision = decide(captions("a dog runs", "a dog sits", "blue"), "consensus > first", window_id="w1")
    assert [v.score for v in decision.verdicts] == [pytest.approx(1 / 3), pytest.approx(1 / 3), 0]
    assert decision.agreement == pytest.approx(2 / 9)

    decision = decide(
        captions("blue", "a dog runs", "a dog sits still", "a dog runs still"), "consensus", window_id="w1"
    )
    assert reasons(decision) == ["LESS_AGREED", "LESS_AGREED", "LESS_AGREED", "MOST_AGREED"]
    assert all(v.evidence["compared_with"] == 3 for v in decision.verdicts)


def test_equal_captions_agree_completely_and_the_first_one_is_kept() -> None:
    decision = decide(captions(*["a dog runs in 3 parks"] * 7), "consensus", window_id="w1")
    assert decision.agreement == 1
    assert decision.kept == ("k0",)
    assert reasons(decision)[1:] == ["TIE_LATER_INDEX"] * 6


def test_equal_captions_tie_exactly_whatever_is_between_them() -> None:
    texts = ("b a c e d", "a e d c", "f h", "d", "d b g e h", "b a c e d")  # a plain sum of floats differs here
    decision = decide(captions(*texts), "consensus", window_id="w1")
    assert decision.verdicts[0].score == decision.verdicts[5].score


def test_a_caption_alone_is_kept_and_agrees_with_nothing() -> None:
    decision = decide(captions("a dog"), "consensus", window_id="w1")
    assert (decision.kept, decision.agreement, decision.verdicts[0].score) == (("k0",), None, None)
    assert reasons(decision) == ["ONLY_CANDIDATE"]


def test_only_consensus_reports_an_agreement() -> None:
    for policy in POLICIES:
        agreement = decide(captions("a dog", "a cat"), policy, window_id="w1").agreement
        assert (agreement is not None) == (policy == "consensus")


def test_the_similarity_of_consensus_can_be_chosen() -> None:
    texts = captions("running dogs", "runs dogs", "runner dog", "running doggy")
    by_token = decide(texts, "consensus", window_id="w1", similarity="token_f1")
    by_gram = decide(texts, "consensus", window_id="w1", similarity="char3_jaccard")
    assert by_token.verdicts[3].score == 0.5 / 3
    assert by_gram.kept == ("k0",)
    assert by_gram.verdicts[0].evidence["similarity"] == "char3_jaccard"


# chains


def test_a_later_policy_breaks_the_exact_ties_of_the_former() -> None:
    decision = decide(captions("a dog", "a dog runs"), "consensus>longest", window_id="w1")
    assert decision.policy == "consensus > longest"
    assert reasons(decision) == ["SHORTER", "LONGEST"]
    assert decision.verdicts[0].score == pytest.approx(0.8)
    assert decision.verdicts[1].evidence["then"]["longest"]["words"] == 3  # type: ignore[index]


def test_a_later_policy_does_not_overrule_the_former() -> None:
    texts = ("a dog", "a dog", "a long sentence about nothing that the others say")
    decision = decide(captions(*texts), "consensus > longest", window_id="w1")
    assert decision.kept == ("k0",)
    assert reasons(decision) == ["MOST_AGREED", "TIE_LATER_INDEX", "LESS_AGREED"]
    assert "then" not in decision.verdicts[2].evidence


def test_all_as_the_first_of_a_chain_keeps_all_in_the_order_of_the_rest() -> None:
    decision = decide(captions("one", "one two three", "one two"), "all > longest", window_id="w1")
    assert decision.kept == ("k1", "k2", "k0")
    assert reasons(decision) == ["KEPT_ALL"] * 3
    assert reasons(decide(captions("alone"), "all", window_id="w1")) == ["KEPT_ALL"]


def test_random_any_behind_another_policy_draws_among_those_that_tie() -> None:
    texts = captions("a b c", "x", "a b d", "a b e")
    kept = {decide(texts, "longest > random_any", window_id=f"w{i}").kept[0] for i in range(60)}
    assert kept == {"k0", "k2", "k3"}


# truncated


@pytest.mark.parametrize("policy", [name for name in POLICIES if name != "all"])
def test_a_truncated_candidate_never_beats_a_complete_one(policy: str) -> None:
    cut = Candidate("cut", "a dog runs in the park and then it", "truncated", sample_index=-1)
    candidates = [cut, *captions("a cat", "a dog runs")]
    decision = decide(candidates, policy, window_id="w1", reference=cut.text)
    assert decision.verdicts[0].reason_code == "TRUNCATED"
    assert decision.verdicts[0].rank == 3


@pytest.mark.parametrize("policy", [name for name in POLICIES if name != "all"])
def test_the_only_complete_candidate_wins_without_a_contest(policy: str) -> None:
    candidates = [
        Candidate("cut", "a dog and", "truncated", -1),
        *captions("a cat"),
        Candidate("bad", "", "refused", 2),
    ]
    decision = decide(candidates, policy, window_id="w1", reference="a dog and")
    assert reasons(decision) == ["TRUNCATED", "ONLY_CANDIDATE", "GATE_REFUSED"]


@pytest.mark.parametrize("policy", POLICIES)
def test_a_truncated_candidate_is_kept_where_no_other_kind_is_valid(policy: str) -> None:
    candidates = [replace(c, status="truncated") for c in captions("a cat and", "a dog runs and")]
    decision = decide([*candidates, Candidate("bad", "", "error")], policy, window_id="w1")
    assert decision.status == "kept"
    assert "TRUNCATED" not in reasons(decision)
    assert all(verdict.evidence["truncated"] is True for verdict in decision.verdicts[:2])


# names, parameters, reasons


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ("longst", r"'longst'; allowed: random_any, .*consensus \(did you mean 'longest'\?\)"),
        ("", "policy is ''; allowed"),
        ("consensus > ", "policy is ''; allowed"),
        ("consensus > lngest", "did you mean 'longest'"),
        ("first > first", "names first twice"),
        ("longest > all", "all as the first of a chain"),
    ],
)
def test_an_unknown_policy_or_a_chain_without_sense_is_refused(policy: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decide([], policy, window_id="w1")


@pytest.mark.parametrize(
    ("policy", "params", "message"),
    [
        ("longest", {"min_word": 3}, r"'min_word'; allowed: min_words, max_words \(did you mean 'min_words'\?\)"),
        ("first", {"min_words": 3}, "policy 'first' has no parameter 'min_words'; it has none"),
        ("longest", {"min_words": -1}, "min_words is -1; allowed: 0 to 100000"),
        ("longest", {"min_words": "3"}, "min_words is '3'"),
        ("longest", {"min_words": True}, "min_words is True"),
        ("longest", {"min_words": None}, "min_words is None"),
        ("longest", {"max_words": 0}, "max_words is 0; allowed: 1 to 100000, or None"),
        ("longest", {"min_words": 5, "max_words": 4}, "min_words is 5 and max_words is 4"),
        ("consensus", {"similarity": "token-f1"}, r"allowed: token_f1, char3_jaccard \(did you mean 'token_f1'\?\)"),
    ],
)
def test_a_wrong_parameter_is_refused_with_the_allowed_ones(policy: str, params: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decide([], policy, window_id="w1", **params)


def test_a_chain_takes_the_parameters_of_all_its_policies() -> None:
    decision = decide([], "consensus > longest", window_id="w1", min_words=2, similarity="char3_jaccard")
    assert decision.parameters == {"similarity": "char3_jaccard", "min_words": 2, "max_words": None}


def test_every_policy_and_parameter_is_described_and_has_an_allowed_default() -> None:
    for policy in POLICIES.values():
        assert policy.description
        for parameter in policy.parameters:
            assert parameter.description
            assert parameter.check(parameter.default) == parameter.default


def test_every_reason_code_has_a_sentence_and_is_its_own_name() -> None:
    assert set(REASONS) == {*GateReason, *PolicyReason}
    for code, sentence in REASONS.items():
        assert code == code.name == code.value
        assert sentence.endswith(".")
        assert code.__doc__ == sentence
    assert REASONS["LONGEST"] == PolicyReason.LONGEST.sentence  # type: ignore[index]  # a code read from the ledger
