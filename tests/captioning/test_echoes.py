"""Echoes: which other windows have the same words, how different they look, and what a decision makes of it."""

from dataclasses import replace
from pathlib import Path

import pytest

from caption_assets.captioning.repeated_captions import MAX_ECHOES, WindowLook, find_echoes, looks_apart
from caption_assets.ids import WindowId
from caption_assets.ledger.schema import CandidateRow, WindowSetRow
from caption_assets.pipeline.caption_work import read_caption_work
from caption_assets.pipeline.retain import decide_batch
from caption_assets.settings.recipes import window_recipe
from tests.ledger.story import Story, row_of, settings

ONES, ZEROS, HALF = 2**64 - 1, 0, 2**32 - 1
SAME = "Green, grey and blue dominate this moderately lit, colourful clip."


def test_pictures_are_compared_at_the_same_part_of_each_window() -> None:
    assert looks_apart([ONES], [ONES]) == 0
    assert looks_apart([ONES], [ZEROS]) == 1
    assert looks_apart([ZEROS, ONES], [HALF, HALF]) == 0.5
    assert looks_apart([ZEROS, ONES], [ZEROS, ZEROS, ONES, ONES]) == 0
    assert looks_apart([], [ONES]) is None


def window(name: str, clip: str = "c", hashes: list[int] | None = None) -> WindowLook:
    return WindowLook(name, clip, hashes)


def candidate(window: str, text: str, name: str | None = None) -> CandidateRow:
    return row_of(CandidateRow, candidate_id=name or f"k-{window}", window_id=window, text=text)


def test_the_same_words_within_a_clip_echo_whatever_their_case_and_punctuation() -> None:
    windows = [window("a", hashes=[ZEROS]), window("b", hashes=[ONES]), window("x", "other", [ONES]),
               window("c", hashes=[HALF])]  # fmt: skip
    rows = [candidate("a", SAME), candidate("b", "Something else."), candidate("c", SAME.upper() + "!"),
            candidate("x", SAME), candidate("b", "", "k-empty")]  # fmt: skip
    found = find_echoes(rows, windows)
    assert set(found) == {"k-a", "k-c"}
    [echo] = found["k-a"]
    assert (echo.window_id, echo.distance, echo.is_neighbour) == ("c", 0.5, False)
    assert find_echoes([candidate("a", SAME), candidate("b", SAME)], windows)["k-a"][0].is_neighbour


def test_a_window_of_which_nothing_is_known_and_many_windows() -> None:
    assert find_echoes([candidate("a", SAME), candidate("b", SAME)], [window("a"), window("b", hashes=[ONES])]) == {}
    many = [window(f"{i:03}", hashes=[i]) for i in range(100)]
    found = find_echoes([candidate(row.window_id, SAME) for row in many], many)
    assert {len(echoes) for echoes in found.values()} == {MAX_ECHOES // 2 + n for n in range(MAX_ECHOES // 2 + 1)}
    assert sum(echo.is_neighbour for echo in found["k-050"]) == 2


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path / "root")


def test_a_decision_follows_what_stands_around_it_and_back(story: Story) -> None:
    chosen = settings(caption_num=2, sampling_params={"temperature": 1}, keep_candidate_mode="first")
    story.use(chosen)
    clip = story.upload("clip")
    rows = [replace(row, frame_hashes=hashes) for row, hashes in
            zip(story.window_rows(clip, 2, chosen), ([ZEROS], [ONES]), strict=True)]  # fmt: skip
    recipe = window_recipe(chosen).recipe_id
    manifest = row_of(WindowSetRow, clip_id=clip, recipe_id=recipe, n_windows=2, status="ok", **story.made())
    story.commit(*rows, manifest)
    first, second = story.windows()

    def answers(window: WindowId, *texts: str) -> list[CandidateRow]:
        made = story.candidates(window, chosen, ["ok"] * len(texts))
        return [replace(row, text=text) for row, text in zip(made, texts, strict=True)]

    def decide(only: str | None = None) -> int:
        candidates = story.ledger.read(read_caption_work, "b").current_candidates
        subjects = [(row, some) for row, some in candidates if only in (None, row.window_id)]
        return decide_batch(story.ledger, "b", subjects, chosen, "run-1")

    story.answer(answers(first, SAME, "A dog runs over a field."))
    assert decide() == 1
    assert story.served()[first][0] == SAME
    story.answer(answers(second, SAME, "A cat sleeps on a sofa."))
    assert decide() == 2
    assert {text for text, _ in story.served().values()} == {"A dog runs over a field.", "A cat sleeps on a sofa."}
    reasons = story.ledger.query(
        "SELECT reason_code, evidence FROM retention_decisions WHERE rank = 2 ORDER BY created_at"
    )
    assert reasons[-1]["reason_code"] == "GATE_SAME_AS_NEIGHBOUR"
    assert decide() == 0, "the same again is no new decision"
    assert decide(only=first) == 1, "without the other window it is decided again"
    assert story.served()[first][0] == SAME
    assert decide(only=first) == 0
    assert decide() == 1
    assert story.served()[first][0] == "A dog runs over a field."
