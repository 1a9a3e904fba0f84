"""Pairs for a judge, its answers, and what of them is asked again."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from caption_assets.captioning.judging import (
    choice_of,
    comparisons,
    judge_request,
    judgement_row,
    missing_pairs,
)
from caption_assets.engines.protocol import Completion
from caption_assets.ids import RecipeId, WindowId
from caption_assets.ledger.database import Ledger
from caption_assets.ledger.schema import JudgementRow
from caption_assets.root import RootFolder
from caption_assets.settings.prompts import JUDGE_PROMPT

NOW = datetime(2026, 1, 1, tzinfo=UTC)
W, R = WindowId("w"), RecipeId("r")
TWO = [("k1", "A {dog} runs."), ("k2", "A {first} cat sleeps.")]


def answered(text: str, finish: str = "stop", made: list[JudgementRow] | None = None) -> list[JudgementRow]:
    return [
        judgement_row(
            pair, Completion(pair.judgement_id, 0, text, finish, error="no" if finish == "error" else None), "run", NOW
        )  # type: ignore[arg-type]
        for pair in missing_pairs(W, TWO, R, made or [])
    ]


def test_each_two_are_compared_in_both_orders_once(tmp_path: Path) -> None:
    pairs = missing_pairs(W, [*TWO, ("k3", "A bird sings."), ("k4", "A bird sings. ")], R, [])
    assert len(pairs) == 4 * 3 - 2, "captions of the same words are not compared"
    assert len({pair.judgement_id for pair in pairs}) == len(pairs)
    rows = answered("A")
    assert Ledger(RootFolder.at(tmp_path)).commit(rows) == {"judgements": 2}
    assert missing_pairs(W, TWO, R, rows) == []
    assert missing_pairs(W, TWO, R, answered("neither")) == [], "that is an answer"


def test_an_error_is_asked_again_as_the_next_attempt() -> None:
    rows = answered("", "error")
    again = missing_pairs(W, TWO, R, rows)
    assert [pair.attempt for pair in again] == [2, 2]
    assert not {pair.judgement_id for pair in again} & {row.judgement_id for row in rows}
    assert comparisons(rows) == {}


def test_a_request_holds_both_captions_in_order_and_asks_without_chance() -> None:
    pair = missing_pairs(W, TWO, R, [])[1]
    request = judge_request(pair, JUDGE_PROMPT, None)  # type: ignore[arg-type]
    [message] = request.messages
    assert message.with_video
    assert message.text.index("A: A {first} cat sleeps.") < message.text.index("B: A {dog} runs.")
    assert (request.purpose, dict(request.sampling), len(request.seeds)) == ("judge", {"temperature": 0.0}, 1)


@pytest.mark.parametrize(
    ("text", "choice"),
    [("A", "first"), (" b", None), ("**B**", "second"), ("Answer: A.", "first"), ("(B)", "second"),
     ("An apple", None), ("", None), ("Both", None), ("I choose caption B because A is", "second")],
)  # fmt: skip
def test_the_first_lone_letter_is_the_answer(text: str, choice: str | None) -> None:
    assert choice_of(text) == choice


def test_answers_are_told_from_both_sides() -> None:
    found = comparisons(answered("A"))  # the first, whichever it was
    assert [(c.against, c.place, c.won) for c in found["k1"]] == [("k2", "first", True), ("k2", "second", False)]
    assert [(c.against, c.place, c.won) for c in found["k2"]] == [("k1", "first", True), ("k1", "second", False)]
