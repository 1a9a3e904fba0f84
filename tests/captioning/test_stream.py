"""Tasks through an engine: a row for every slot, whatever the engine does."""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime

import pytest

from caption_assets.captioning.enhancing import EnhanceJob, EnhanceTask, enhance_stream
from caption_assets.captioning.stream import Filling, Job, caption_stream
from caption_assets.captioning.tasks import Slot, Task
from caption_assets.engines.dispatcher import NO_ANSWER, Dispatcher
from caption_assets.engines.protocol import Completion, Message, PackedFrames, Request
from caption_assets.ids import CandidateId, RecipeId, WindowId
from caption_assets.settings.groups import CaptionSettings, EnhanceSettings

from .engines import ScriptedEngine, fail_the_second, say_nothing, say_the_seed

FRAMES = PackedFrames([b"jpeg"], [0.0], 8, 8)
ASK = CaptionSettings(prompt_text="prompt", sampling_params={}, max_output_tokens=10, stage2_prompt_text="Refine: ")
RECIPE = RecipeId("r")
ASKS = {RECIPE: ASK}
ONE = [Task(WindowId(f"w{i}"), RECIPE, (Slot(0, 1), Slot(1, 2), Slot(2, 1))) for i in range(3)]
TWO = [Task(t.window_id, RECIPE, t.slots, 2, tuple((CandidateId(f"k{i}"), f"text {i}") for i in range(3))) for t in ONE]


def rows_of(engine: ScriptedEngine, jobs: list[Job], **options: bool) -> Iterator[tuple[str, dict[str, object]]]:
    rows = caption_stream(Dispatcher[Filling](engine), jobs, ASKS, "run", **options)
    return ((batch, asdict(row)) for batch, row in rows)


def run(
    engine: ScriptedEngine, tasks: list[Task], frames_of: Callable[[WindowId], PackedFrames | str] = lambda _: FRAMES
) -> list[dict[str, object]]:
    rows = [row for _, row in rows_of(engine, [Job("b", tasks, frames_of)])]
    assert sorted(str(row["candidate_id"]) for row in rows) == sorted(t.candidate_id(s) for t in tasks for s in t.slots)
    return rows


@pytest.mark.parametrize("tasks", [ONE, TWO], ids=["first stage", "second stage"])
@pytest.mark.parametrize("backwards", [0, 3])
def test_every_answer_fills_its_slot_in_whatever_order_it_comes(tasks: list[Task], backwards: int) -> None:
    for row in run(ScriptedEngine(say_the_seed, backwards), tasks):
        assert row["text"] == f"seed {row['seed']}"
        assert (row["status"], row["prompt_tokens"], row["output_tokens"], row["latency_ms"]) == ("ok", 10, 5, 1.5)
        assert row["attempt"] == (2 if row["sample_index"] == 1 else 1)
        assert row["parent_candidate_id"] == (f"k{row['sample_index']}" if tasks is TWO else None)


@pytest.mark.parametrize("tasks", [ONE, TWO], ids=["first stage", "second stage"])
def test_an_engine_that_says_nothing_leaves_error_rows(tasks: list[Task]) -> None:
    rows = run(ScriptedEngine(say_nothing), tasks)
    assert {(row["status"], row["error"], row["text"], row["finish_reason"]) for row in rows} == {
        ("error", NO_ANSWER, "", "error")
    }


def test_an_engine_that_leaves_one_candidate_out_loses_that_one() -> None:
    rows = run(ScriptedEngine(lambda request: say_the_seed(request)[1:]), ONE)
    assert {row["sample_index"]: row["status"] for row in rows} == {0: "ok", 1: "ok", 2: "error"}


def test_a_candidate_that_fails_costs_itself() -> None:
    rows = run(ScriptedEngine(fail_the_second), ONE)
    assert [row["error"] for row in rows if row["status"] == "error"] == ["out of memory"] * 6
    assert sum(row["status"] == "ok" for row in rows) == 3


def test_a_window_whose_frames_cannot_be_had_is_error_rows_and_is_not_sent() -> None:
    engine = ScriptedEngine(say_the_seed)
    rows = run(engine, ONE, lambda window: "the file is gone" if window == "w1" else FRAMES)
    assert {(row["window_id"], row["error"]) for row in rows} == {
        ("w0", None),
        ("w1", "the file is gone"),
        ("w2", None),
    }
    assert len(engine.asked) == 2


def test_frames_are_read_only_when_the_engine_asks_for_the_next_request() -> None:
    read: list[WindowId] = []

    def frames_of(window: WindowId) -> PackedFrames:
        read.append(window)
        return FRAMES

    rows = rows_of(ScriptedEngine(say_the_seed), [Job("b", ONE, frames_of)])
    assert read == []
    next(rows)
    assert read in (["w0"], ["w0", "w1"]), "one may be read in advance"


def test_a_second_stage_follows_its_first_caption_at_once() -> None:
    engine = ScriptedEngine(say_the_seed)
    rows = [row for _, row in rows_of(engine, [Job("b", ONE, lambda _: FRAMES)], two_stages=True)]
    firsts = {row["candidate_id"]: row for row in rows if row["stage"] == 1}
    seconds = [row for row in rows if row["stage"] == 2]
    assert len(firsts) == len(seconds) == 9
    assert {row["parent_candidate_id"] for row in seconds} == set(firsts)
    for row in seconds:
        parent = firsts[row["parent_candidate_id"]]
        assert (row["sample_index"], row["status"]) == (parent["sample_index"], "ok")
    refined = [request for request in engine.asked if request.purpose == "refine"]
    assert {request.messages[1].text for request in refined} == {f"seed {row['seed']}" for row in firsts.values()}
    assert all(request.frames is FRAMES for request in refined)
    order = [request.purpose for request in engine.asked]
    assert order.index("refine") < len(order) - 1 - order[::-1].index("caption"), "nothing waits for the last window"


def test_a_failed_first_caption_is_not_refined() -> None:
    engine = ScriptedEngine(fail_the_second)
    rows = [row for _, row in rows_of(engine, [Job("b", ONE, lambda _: FRAMES)], two_stages=True)]
    assert [row["sample_index"] for row in rows if row["stage"] == 2] == [0, 0, 0]


def test_batches_share_one_queue_and_frames_are_read_from_their_own() -> None:
    engine = ScriptedEngine(say_the_seed, backwards=2)
    jobs = [Job("a", ONE[:1], lambda _: FRAMES), Job("b", ONE[1:], lambda w: FRAMES if w == "w1" else "gone")]
    rows = list(rows_of(engine, jobs))
    assert sorted({(batch, str(row["window_id"]), str(row["status"])) for batch, row in rows}) == [
        ("a", "w0", "ok"),
        ("b", "w1", "ok"),
        ("b", "w2", "error"),
    ]
    assert len(rows) == 9


def test_nothing_to_do_asks_nothing() -> None:
    assert run(ScriptedEngine(say_the_seed), []) == []


# enhancement

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CAPTION = 'a "dog" \\ {runs}\n'
TASKS = [EnhanceTask(CandidateId(f"k{i}"), WindowId("w"), RECIPE, CAPTION, attempt=1 + i) for i in range(3)]


def enhance(
    engine: ScriptedEngine,
    frames_of: Callable[[WindowId], PackedFrames | str] | None = None,
    sampling: dict[str, object] | None = None,
) -> list[dict[str, object]]:
    jobs = [EnhanceJob("a", TASKS[:2], frames_of), EnhanceJob("b", TASKS[2:], frames_of)]
    made = list(
        enhance_stream(
            Dispatcher(engine), jobs, enhance=EnhanceSettings(prompt_text="Rewrite.", max_output_tokens=9),
            sampling=sampling or {}, run_id="run",
            clock=lambda: NOW,
        )
    )  # fmt: skip
    assert {row.candidate_id: batch for batch, row in made} == {"k0": "a", "k1": "a", "k2": "b"}
    rows = [asdict(row) for _, row in made]
    assert sorted(str(row["enhanced_id"]) for row in rows) == sorted(task.enhanced_id for task in TASKS)
    return rows


def test_a_caption_is_rewritten_from_its_text() -> None:
    engine = ScriptedEngine(say_the_seed, backwards=3)
    for row in enhance(engine):
        task = next(task for task in TASKS if task.candidate_id == row["candidate_id"])
        assert (row["text"], row["attempt"], row["status"]) == (f"seed {row['seed']}", task.attempt, "ok")
    request = engine.asked[0]
    assert request.messages == (Message("system", "Rewrite."), Message("user", CAPTION))
    assert (request.purpose, request.frames, request.max_tokens) == ("enhance", None, 9)


def test_enhancement_seeds_never_change() -> None:
    assert [task.seed({}) for task in TASKS] == ENHANCE_SEEDS


def test_a_seed_that_is_set_is_used_for_enhancements_too() -> None:
    engine = ScriptedEngine(say_the_seed)
    assert {row["seed"] for row in enhance(engine, sampling={"seed": 7, "temperature": 0.5})} == {7}
    assert all(list(request.seeds) == [7] and request.sampling == {"temperature": 0.5} for request in engine.asked)


def test_a_silent_engine_leaves_error_rows_of_enhancements() -> None:
    assert {(row["status"], row["error"]) for row in enhance(ScriptedEngine(say_nothing))} == {("error", NO_ANSWER)}


def test_an_engine_that_works_from_frames_gets_them_or_an_error_row() -> None:
    engine = ScriptedEngine(say_the_seed)
    enhance(engine, lambda _: FRAMES)
    assert all(request.frames is FRAMES for request in engine.asked)
    silent = ScriptedEngine(say_the_seed)
    assert {row["error"] for row in enhance(silent, lambda _: "gone")} == {"gone"}
    assert silent.asked == []


def test_an_answer_that_is_cut_or_empty_says_so() -> None:
    def answer(request: Request) -> list[Completion]:
        return [
            Completion(
                request.request_id,
                0,
                *{0: ("cut", "length"), 1: (" ", "stop"), 2: ("x", "stop")}[len(engine.asked) - 1],
            )
        ]  # type: ignore[arg-type]

    engine = ScriptedEngine(answer)
    assert [row["status"] for row in enhance(engine)] == ["truncated", "empty", "ok"]


ENHANCE_SEEDS = [3310434998, 1117225507, 17346865]
