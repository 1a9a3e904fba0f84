"""Gates that read the text: what they stop, what they let through, and what they cost."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caption_assets.retention import GATES, Candidate, Echo, decide
from caption_assets.retention.gates import first_failure
from caption_assets.retention.repetition import loop_at_end, repeated_share, zlib_ratio
from caption_assets.settings import GateSettings
from caption_assets.settings.prompts import CAPTION_PROMPTS
from tests.retention.captions import BAD, GOOD, GOOD_ELSEWHERE, PROMPT

LIMITS = GateSettings.model_validate({}).parameters


def stopped(text: str, prompt: str = PROMPT, **limits: object) -> str | None:
    failure = first_failure(Candidate("k", text, prompts=(prompt,)), {**LIMITS, **limits}, GATES)  # type: ignore[dict-item]
    return failure.gate.name if failure else None


@pytest.mark.parametrize("text", GOOD)
def test_a_good_caption_passes_every_gate(text: str) -> None:
    assert stopped(text) is None


@pytest.mark.parametrize(("prompt", "text"), GOOD_ELSEWHERE)
def test_a_caption_may_be_in_the_script_that_was_asked_for(prompt: str, text: str) -> None:
    assert stopped(text, prompt) is None


@pytest.mark.parametrize(("gate", "text"), BAD)
def test_a_bad_text_is_stopped_by_its_gate_and_a_window_keeps_the_good_one(gate: str, text: str) -> None:
    assert stopped(text) == gate
    bad, good = Candidate("bad", text, prompts=(PROMPT,)), Candidate("good", GOOD[1], sample_index=1)
    decision = decide([bad, good], "first", window_id="w", **LIMITS)
    assert decision.kept == ("good",)
    assert decision.verdicts[0].evidence["gate"] == gate
    assert decision.verdicts[0].reason_code == f"GATE_{gate.upper()}"


@pytest.mark.parametrize(
    ("gate", "text", "off"),
    [
        ("prompt_echo", PROMPT, {"gate_echo_words": 0}),
        ("repetition", "a b c d " * 8 + "e", {"gate_max_repeated_share": 1, "gate_max_zlib_ratio": 1000}),
        ("wrong_script", "Мужчина идёт по улице.", {"gate_script": "any"}),
        ("wrong_script", "Мужчина идёт по улице.", {"gate_script": "Latin, Cyrillic"}),
        ("wrong_script", "Мужчина идёт по улице.", {"gate_max_foreign_share": 1}),
        ("too_short", "Dog.", {"gate_min_words": 0}),
        ("too_long", "one two three four five " * 201, {"gate_max_words": 2000}),
    ],
)
def test_a_threshold_can_be_moved(gate: str, text: str, off: dict[str, object]) -> None:
    others = {"gate_max_repeated_share": 1, "gate_max_zlib_ratio": 1000} if gate == "too_long" else {}
    if gate != "too_long":  # its text is a loop
        assert stopped(text, **others) == gate
    assert stopped(text, **others, **off) in (None, "loop")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("gate_script", "Latn", "script is 'Latn'; allowed: auto, any"),
        ("gate_min_wrods", 3, "did you mean 'gate_min_words'"),
        ("gate_max_zlib_ratio", float("nan"), "allowed: 1 to 1000"),
        ("gate_same_caption", "maybe", "allowed: off, behind, drop"),
    ],
)
def test_a_wrong_threshold_is_refused_with_the_allowed_ones(name: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decide([Candidate("a", "a dog")], "first", window_id="w", **{name: value})


def test_decide_alone_takes_the_shortest_caption() -> None:
    assert decide([Candidate("a", "dog")], "first", window_id="w").kept == ("a",)


SAME = "Green, grey and blue dominate this moderately lit, colourful clip."
FAR, NEAR = Echo("w2", 0.4, True), Echo("w2", 0.1, True)


@pytest.mark.parametrize(
    ("echo", "text", "mode", "kept", "reason"),
    [
        (FAR, SAME, "behind", "clean", "GATE_SAME_AS_NEIGHBOUR"),
        (Echo("w9", 0.4, False), SAME, "behind", "clean", "GATE_SAME_ELSEWHERE"),
        (FAR, SAME, "drop", "clean", "GATE_SAME_AS_NEIGHBOUR"),
        (FAR, SAME, "off", "same", None),
        (NEAR, SAME, "behind", "same", None),
        (FAR, "A dog runs over a field.", "behind", "same", None),  # so short that two windows may well share it
    ],
)
def test_the_words_of_another_window_that_looks_different_rank_behind(
    echo: Echo, text: str, mode: str, kept: str, reason: str | None
) -> None:
    same, clean = Candidate("same", text, echoes=(echo,)), Candidate("clean", "A dog runs.", sample_index=1)
    decision = decide([same, clean], "first", window_id="w1", gate_same_caption=mode)
    assert decision.kept == (kept,)
    if reason is not None:
        assert decision.verdicts[0].reason_code == reason
        assert (decision.verdicts[0].rank is None) == (mode == "drop")


def test_such_a_caption_is_kept_where_there_is_no_other_and_says_what_is_odd() -> None:
    same = Candidate("same", SAME, echoes=(FAR, Echo("w3", 0.45, True)))
    verdict = decide([same], "first", window_id="w1").verdicts[0]
    assert (verdict.action, verdict.reason_code) == ("keep", "ONLY_CANDIDATE")
    assert verdict.evidence["behind"] == {
        "gate": "same_as_neighbour", "window_id": "w3", "distance": 0.45, "windows": 2,
    }  # fmt: skip
    cut = Candidate("cut", "A dog runs over", "truncated", sample_index=1)
    assert decide([same, cut], "first", window_id="w1").kept == ("same",), "a whole caption beats one that was cut off"
    assert decide([same], "first", window_id="w1", gate_same_caption="drop").kept == ()


@given(st.text(max_size=400))
def test_measures_stay_in_their_ranges_whatever_the_text(text: str) -> None:
    assert 0 <= repeated_share(text) <= 1
    assert zlib_ratio(text) > 0
    loop = loop_at_end(text)
    assert loop is None or loop in text


def test_hostile_texts_cost_little() -> None:
    texts = ["a " * 50_000, "(" * 100_000, '"' * 100_000, "ab" * 50_000, "i am " * 20_000, "here is a " * 10_000]
    began = time.process_time()
    for text in texts:
        stopped(text, prompt=text)
    assert time.process_time() - began < 5


def test_the_built_in_prompts_ask_for_latin_script() -> None:
    for prompt in CAPTION_PROMPTS.values():
        assert stopped(GOOD[1], prompt.text) is None
        assert stopped("视频中，一位女士站在厨房里。", prompt.text) == "wrong_script"
        assert stopped(prompt.text, prompt.text) == "prompt_echo"
