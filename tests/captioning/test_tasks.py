"""What is left to do, with which ids and seeds, and what an engine is asked word for word."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caption_assets import ids
from caption_assets.captioning.plan import first_stage_tasks, original_row, second_stage_tasks
from caption_assets.captioning.tasks import (
    Slot,
    Task,
    first_request,
    generation_columns,
    missing_slots,
    second_requests,
    status_of,
)
from caption_assets.engines.protocol import Completion, Message, PackedFrames
from caption_assets.ids import CandidateId, RecipeId, WindowId
from caption_assets.ledger.schema import CandidateRow
from caption_assets.settings.groups import CaptionSettings
from caption_assets.settings.prompts import CAPTION_PROMPTS, choose_prompt
from tests.ledger.story import row_of

W1, W2, RECIPE = WindowId("w1"), WindowId("w2"), RecipeId("r1")
FRAMES = PackedFrames([b"jpeg"], [0.0], 8, 8)
ASK = CaptionSettings(
    prompt_text="What is seen?",
    sampling_params={"temperature": 0.5},
    max_output_tokens=100,
    stage2_prompt_text="Refine: ",
)
ODD = "quotes \"' braces {x} {{y}} %s backslash \\n \\ newline \n tab \t ü 🎬 <|im_end|>"


@pytest.mark.parametrize(
    ("n", "made", "slots"),
    [
        (1, [], [(0, 1)]),
        (3, [], [(0, 1), (1, 1), (2, 1)]),
        (3, [(0, 1, "ok"), (2, 1, "truncated")], [(1, 1)]),
        (3, [(0, 1, "ok"), (1, 1, "error"), (2, 1, "ok")], [(1, 2)]),
        (1, [(0, 1, "error"), (0, 2, "error")], [(0, 3)]),
        (1, [(0, 2, "error"), (0, 1, "error")], [(0, 3)]),
        (1, [(0, 1, "error"), (0, 2, "ok")], []),
        (1, [(0, 1, "ok"), (0, 2, "error")], []),
        (2, [(0, 1, "empty"), (1, 1, "refused")], []),
        (1, [(5, 1, "error")], [(0, 1)]),
    ],
)
def test_only_what_is_not_there_is_made_and_an_error_again_as_the_next_attempt(
    n: int, made: list[tuple[int, int, str]], slots: list[tuple[int, int]]
) -> None:
    assert missing_slots(n, made) == tuple(Slot(*slot) for slot in slots)


ROWS = st.lists(st.tuples(st.integers(0, 4), st.integers(1, 3), st.sampled_from(["ok", "error", "empty"])), max_size=8)


@given(st.integers(1, 5), ROWS)
def test_when_every_slot_is_answered_nothing_is_left_and_no_candidate_is_made_twice(
    n: int, made: list[tuple[int, int, str]]
) -> None:
    slots = missing_slots(n, made)
    assert not {(s.sample_index, s.attempt) for s in slots} & {(index, attempt) for index, attempt, _ in made}
    assert missing_slots(n, [*made, *((s.sample_index, s.attempt, "ok") for s in slots)]) == ()


def row(window: str, index: int, status: str = "ok", attempt: int = 1, stage: int = 1) -> CandidateRow:
    text = f"{window} {index}" if status in ("ok", "truncated") else ""
    name = f"k-{window}-{index}-{attempt}-{stage}"
    return row_of(
        CandidateRow, candidate_id=name, window_id=window, sample_index=index, attempt=attempt, stage=stage,
        status=status, text=text,
    )  # fmt: skip


def test_windows_that_failed_before_come_last() -> None:
    made = [row("w1", 0, "error")]
    assert [task.window_id for task in first_stage_tasks({W1: RECIPE, W2: RECIPE}, made, 1)] == [W2, W1]


def test_an_answer_that_could_not_be_stored_is_made_storable() -> None:
    columns = generation_columns(Completion("r", 0, "a dog \ud83d runs", "stop", 10**12, 5, reasoning="\udc00"), 1)
    assert (columns["text"], columns["reasoning"]) == ("a dog ? runs", "?")
    assert (columns["prompt_tokens"], columns["output_tokens"]) == (None, 5)


def test_first_stage_tasks_come_in_the_order_of_the_windows_and_only_where_something_is_missing() -> None:
    made = [row("w1", 0), row("w1", 1), row("w2", 1, "error"), row("w2", 0, stage=2)]
    tasks = first_stage_tasks({W2: RECIPE, W1: RECIPE}, made, 2)
    assert tasks == [Task(W2, RECIPE, (Slot(0, 1), Slot(1, 2)))]


def test_second_stage_tasks_refine_what_is_good_and_not_refined_yet() -> None:
    made = [
        row("w1", 0), row("w1", 1, "truncated"), row("w1", 2, "empty"), row("w1", 3, "refused"), row("w1", 4, "error"),
        row("w1", 4, attempt=2), row("w1", 5), row("w1", 5, stage=2), row("w1", 6), row("w1", 6, "error", stage=2),
        row("w2", 0), row("w2", 0, "empty", stage=2),
    ]  # fmt: skip
    (task,) = second_stage_tasks({W1: RECIPE, W2: RECIPE}, made)
    assert (task.window_id, task.stage) == (W1, 2)
    assert task.slots == (Slot(0, 1), Slot(1, 1), Slot(4, 1), Slot(6, 2))
    assert task.parents[2] == ("k-w1-4-2-1", "w1 4")


def test_seeds_never_change() -> None:
    """Written once. A change here makes no stored caption reproducible any more."""
    one = Task(W1, RECIPE, ())
    two = Task(W1, RECIPE, (), stage=2)
    assert [
        one.seed(Slot(0, 1), None),
        one.seed(Slot(1, 1), None),
        one.seed(Slot(0, 2), None),
        two.seed(Slot(0, 1), None),
    ] == SEEDS


def test_a_seed_that_is_set_counts_on_from_there_and_fits_in_32_bits() -> None:
    task = Task(W1, RECIPE, ())
    assert [task.seed(Slot(index, 1), 7) for index in range(3)] == [7, 8, 9]
    assert task.seed(Slot(1, 1), 2**32 - 1) == 0


def test_the_seed_travels_with_the_candidate_and_not_in_the_sampling_fields() -> None:
    ask = CaptionSettings(sampling_params={"temperature": 0.5, "seed": 7})
    request = first_request(Task(W1, RECIPE, (Slot(1, 1), Slot(3, 2))), ask, FRAMES)
    assert list(request.seeds) == [8, 10]
    assert request.sampling == {"temperature": 0.5}


def test_the_first_request_holds_the_prompt_and_the_frames() -> None:
    task = Task(W1, RECIPE, (Slot(0, 1),))
    request = first_request(task, ASK, FRAMES)
    assert (request.request_id, request.purpose, request.max_tokens) == (
        ids.task_id("caption", W1, RECIPE),
        "caption",
        100,
    )
    assert request.messages == (Message("user", "What is seen?", with_video=True),)
    assert request.frames is FRAMES


def test_a_system_prompt_comes_first() -> None:
    ask = CaptionSettings(prompt_text="p", system_prompt="Be brief.")
    request = first_request(Task(W1, RECIPE, (Slot(0, 1),)), ask, FRAMES)
    assert request.messages == (Message("system", "Be brief."), Message("user", "p", with_video=True))


def test_the_second_request_holds_the_first_caption_once_as_answer_and_once_with_the_second_prompt() -> None:
    task = Task(W1, RECIPE, (Slot(0, 1), Slot(2, 1)), 2, ((CandidateId("k0"), "one"), (CandidateId("k2"), "three")))
    requests = second_requests(task, ASK, FRAMES)
    assert [request.request_id for request in requests] == [f"{task.task_id}/0", f"{task.task_id}/2"]
    assert all(request.purpose == "refine" and request.frames is FRAMES for request in requests)
    assert requests[1].messages == (
        Message("user", "What is seen?", with_video=True),
        Message("assistant", "three"),
        Message("user", "Refine: three"),
    )
    assert list(requests[1].seeds) == [task.seed(Slot(2, 1), None)]


def test_texts_reach_the_engine_letter_for_letter() -> None:
    ask = CaptionSettings(prompt_text=ODD, system_prompt=ODD, stage2_prompt_text=ODD)
    first = first_request(Task(W1, RECIPE, (Slot(0, 1),)), ask, FRAMES)
    assert {message.text for message in first.messages} == {ODD}
    (second,) = second_requests(Task(W1, RECIPE, (Slot(0, 1),), 2, ((CandidateId("k"), ODD),)), ask, FRAMES)
    assert [message.text for message in second.messages] == [ODD, ODD, ODD, ODD + ODD]


@pytest.mark.parametrize(
    ("text", "finish", "status"),
    [
        ("a", "stop", "ok"),
        ("a", "length", "truncated"),
        ("", "stop", "empty"),
        (" \n", "length", "empty"),
        ("", "error", "error"),
    ],
)
def test_the_status_says_what_is_wrong_with_a_text(text: str, finish: str, status: str) -> None:
    assert status_of(Completion("r", 0, text, finish)) == status  # type: ignore[arg-type]


def test_a_prompt_of_your_own_wins_also_when_it_is_empty() -> None:
    assert choose_prompt(CAPTION_PROMPTS, "av", None) is CAPTION_PROMPTS["av"]
    assert choose_prompt(CAPTION_PROMPTS, "av", "").text == ""
    assert choose_prompt(CAPTION_PROMPTS, "av", ODD).text == ODD


def test_an_original_caption_is_a_candidate_whose_identity_is_its_text() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    one, again, other = (original_row(W1, text, RECIPE, run, now) for text, run in (("a", "x"), ("a", "y"), ("b", "x")))
    assert one.candidate_id == again.candidate_id != other.candidate_id
    assert (one.origin, one.status, one.text, one.attempt) == ("original", "ok", "a", 1)


SEEDS = [484150019, 3017455437, 3015375348, 3086192026]
