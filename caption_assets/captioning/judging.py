"""Judging: a model compares the captions of a window two by two, and each two in both orders.

Models prefer what they read first or last (Zheng et al. 2023, "Judging LLM-as-a-judge"), so a caption beats another one
only where it is chosen in either place. What was answered is a row of `judgements`; the policy `judge` counts these
rows and asks nobody.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import permutations

from caption_assets import ids
from caption_assets.captioning.tasks import generation_columns
from caption_assets.engines.protocol import Completion, Message, PackedFrames, Request
from caption_assets.ids import RecipeId, WindowId
from caption_assets.ledger.schema import JudgementRow
from caption_assets.retention import Comparison
from caption_assets.settings.prompts import Prompt
from caption_assets.settings.recipes import JUDGE_MAX_TOKENS, JUDGE_SAMPLING

FIRST, SECOND = "first", "second"
_ANSWER = re.compile(r"(?<![^\W_])([AB])(?![^\W_])")


@dataclass(frozen=True)
class Pair:
    """Two captions of a window in the order in which they are shown to the judge. attempt counts from 1."""

    window_id: WindowId
    recipe_id: RecipeId
    first: tuple[str, str]
    second: tuple[str, str]
    attempt: int = 1

    @property
    def judgement_id(self) -> str:
        """The identity of the row that this attempt makes."""
        return "j" + ids.digest(self.recipe_id, self.first[0], self.second[0], self.attempt)

    @property
    def seed(self) -> int:
        """The sampling seed, for engines that ask for one at temperature 0 too."""
        return ids.derived_seed(self.judgement_id)


def missing_pairs(
    window: WindowId, candidates: Sequence[tuple[str, str]], recipe: RecipeId, made: Sequence[JudgementRow]
) -> list[Pair]:
    """Return the pairs of `candidates` (id and text) that have no answer yet, each two in both orders.

    made: rows of this window and recipe. An error is asked again; an answer that names neither is final. Captions of
    the same words are not compared.
    """
    attempts: dict[tuple[str, str], int] = {}
    done = set()
    for row in made:
        pair = (row.first_candidate_id, row.second_candidate_id)
        attempts[pair] = max(attempts.get(pair, 0), row.attempt)
        if row.status != "error":
            done.add(pair)
    return [
        Pair(window, recipe, first, second, attempts.get((first[0], second[0]), 0) + 1)
        for first, second in permutations(candidates, 2)
        if (first[0], second[0]) not in done and first[1].strip() != second[1].strip()
    ]


def judge_request(pair: Pair, prompt: Prompt, frames: PackedFrames) -> Request:
    """Return the request that asks for one pair."""
    # Captions are put in one after the other, since a caption may hold braces.
    head, _, rest = prompt.text.partition("{first}")
    middle, _, tail = rest.partition("{second}")
    text = f"{head}{pair.first[1]}{middle}{pair.second[1]}{tail}"
    return Request(
        request_id=pair.judgement_id,
        purpose="judge",
        messages=(Message("user", text, with_video=True),),
        seeds=[pair.seed],
        max_tokens=JUDGE_MAX_TOKENS,
        sampling=JUDGE_SAMPLING,
        frames=frames,
    )


def choice_of(text: str) -> str | None:
    """Return which caption an answer names, by its first lone letter A or B; None where it names neither."""
    found = _ANSWER.search(text)
    return None if found is None else FIRST if found[1] == "A" else SECOND


def judgement_row(pair: Pair, completion: Completion, run_id: str, now: datetime) -> JudgementRow:
    """Return the ledger row of an answer."""
    return JudgementRow(
        judgement_id=pair.judgement_id,
        window_id=pair.window_id,
        recipe_id=pair.recipe_id,
        first_candidate_id=pair.first[0],
        second_candidate_id=pair.second[0],
        attempt=pair.attempt,
        **generation_columns(completion, pair.seed),
        # The answer is cut off on purpose: a letter is all that is wanted.
        status="error" if completion.finish_reason == "error" else "ok",
        choice=choice_of(completion.text),
        run_id=run_id,
        created_at=now,
    )


def comparisons(rows: Sequence[JudgementRow]) -> dict[str, tuple[Comparison, ...]]:
    """Return what was answered about each candidate, from rows of one window and recipe."""
    found: dict[str, list[Comparison]] = {}
    for row in rows:
        if row.status == "error":
            continue
        first, second, choice = row.first_candidate_id, row.second_candidate_id, row.choice
        found.setdefault(first, []).append(Comparison(second, FIRST, None if choice is None else choice == FIRST))
        found.setdefault(second, []).append(Comparison(first, SECOND, None if choice is None else choice == SECOND))
    return {name: tuple(sorted(some, key=_order)) for name, some in found.items()}


def _order(comparison: Comparison) -> tuple[str, str]:
    return comparison.against, comparison.place
