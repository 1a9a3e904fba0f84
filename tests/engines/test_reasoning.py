"""What a model thought is never in what it answered."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caption_assets.engines.reasoning import CLOSERS, OPENERS, prompt_opens_reasoning, split_reasoning

SPLIT = {
    "no thought": ("A dog runs. ", False, "A dog runs. ", None),
    "a thought": ("<think>\nIs it a dog?\n</think>\n\nA dog.", False, "A dog.", "Is it a dog?"),
    "an empty thought": ("<think>\n\n</think>\n\nA dog.", False, "A dog.", None),
    "cut while thinking": ("<think>Is it a dog", False, "", "Is it a dog"),
    "opened by the prompt": ("Is it?\n</think>\nA dog.", True, "A dog.", "Is it?"),
    "opened by the prompt, cut": ("Is it a dog", True, "", "Is it a dog"),
    "opened by the prompt and again": ("<think>Is it?</think>A dog.", True, "A dog.", "Is it?"),
    "closed only": ("Is it?</think>A dog.", False, "A dog.", "Is it?"),
    "two thoughts": ("<think>a</think>A dog <think>b</think>runs.", False, "A dog runs.", "a\nb"),
    "a mark inside a thought": ("<think>write <think> first</think>A dog.", False, "A dog.", "write <think> first"),
    "closed twice": ("<think>a</think>A dog.</think>", False, "A dog.", "a"),
    "other marks": ("◁think▷a◁/think▷A dog.", False, "A dog.", "a"),
    "capitals": ("<THINK>a</Think>A dog.", False, "A dog.", "a"),
    "a comparison": ("3 < 4 and think > nothing", False, "3 < 4 and think > nothing", None),
    "nothing": ("", False, "", None),
}


@pytest.mark.parametrize("case", SPLIT)
def test_a_thought_is_split_off(case: str):
    text, opened, answer, reasoning = SPLIT[case]
    assert split_reasoning(text, opened_in_prompt=opened) == (answer, reasoning)


@given(st.lists(st.sampled_from([*OPENERS, *CLOSERS, "a dog", " ", "\\{}\"'"])).map("".join), st.booleans())
def test_no_mark_is_left_in_an_answer(text: str, opened: bool):
    answer, _ = split_reasoning(text, opened_in_prompt=opened)
    assert not any(mark in answer for mark in (*OPENERS, *CLOSERS))


@given(st.text())
def test_text_without_marks_is_not_touched(text: str):
    assert split_reasoning(text) == (text, None) or any(m.lower() in text.lower() for m in (*OPENERS, *CLOSERS))


def test_a_prompt_that_ends_inside_a_thought_says_so():
    assert prompt_opens_reasoning("<|im_start|>assistant\n<think>\n")
    assert not prompt_opens_reasoning("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    assert not prompt_opens_reasoning("<|im_start|>assistant\n")
