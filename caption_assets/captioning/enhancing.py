"""Enhancement work: from kept captions to requests, from completions to rows of enhanced captions."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from caption_assets import ids
from caption_assets.captioning.stream import NO_ANSWER, FramesOf
from caption_assets.captioning.tasks import generation_columns
from caption_assets.engines.protocol import Completion, Engine, Message, PackedFrames, Request
from caption_assets.ids import CandidateId, RecipeId, TaskId, WindowId


@dataclass(frozen=True)
class EnhanceTask:
    """A kept caption that an enhance recipe has not rewritten yet. attempt counts from 1."""

    candidate_id: CandidateId
    window_id: WindowId
    recipe_id: RecipeId
    caption: str
    attempt: int

    @property
    def task_id(self) -> TaskId:
        """The identity of the work: this caption under this recipe."""
        return ids.task_id("enhance", self.candidate_id, self.recipe_id)

    @property
    def enhanced_id(self) -> str:
        """The identity of the row that this attempt makes."""
        return "e" + ids.digest(self.task_id, self.attempt)

    def seed(self, sampling: Mapping[str, object]) -> int:
        """The sampling seed: the one of `sampling` where it has one, else drawn from the identity."""
        base = sampling.get("seed")
        return base if isinstance(base, int) else ids.derived_seed(self.task_id, 0, self.attempt)


def enhance_stream(
    engine: Engine,
    tasks: Sequence[EnhanceTask],
    *,
    prompt: str,
    sampling: Mapping[str, object],
    max_tokens: int,
    frames_of: FramesOf | None,
    run_id: str,
    clock: Callable[[], datetime],
) -> Iterator[dict[str, object]]:
    """Yield a row for every task, in the order in which the engine finishes.

    frames_of reads a window's frames, for an engine that works from them; None for one that reads the text.
    """
    waiting: dict[str, EnhanceTask] = {}
    failed: list[tuple[EnhanceTask, str]] = []

    def requests() -> Iterator[Request]:
        for task in tasks:
            frames = frames_of(task.window_id) if frames_of else None
            if isinstance(frames, str):
                failed.append((task, frames))
                continue
            waiting[task.task_id] = task
            yield enhance_request(task, prompt, sampling, max_tokens, frames)

    for completion in engine.stream(requests()):
        task = waiting.pop(completion.request_id)
        yield enhanced_row(task, completion, task.seed(sampling), run_id, clock())
    for task, reason in [*failed, *((task, NO_ANSWER) for task in waiting.values())]:
        nothing = Completion(task.task_id, 0, "", "error", error=reason)
        yield enhanced_row(task, nothing, task.seed(sampling), run_id, clock())


def enhance_request(
    task: EnhanceTask, prompt: str, sampling: Mapping[str, object], max_tokens: int, frames: PackedFrames | None
) -> Request:
    """Return the request: the prompt as the system turn, the caption as the user's."""
    return Request(
        request_id=task.task_id,
        purpose="enhance",
        messages=(Message("system", prompt), Message("user", task.caption)),
        seeds=[task.seed(sampling)],
        max_tokens=max_tokens,
        sampling={name: value for name, value in sampling.items() if name != "seed"},
        frames=frames,
    )


def enhanced_row(task: EnhanceTask, completion: Completion, seed: int, run_id: str, now: datetime) -> dict[str, object]:
    """Return the ledger row of a completion, with the caption it was made from."""
    return {
        "enhanced_id": task.enhanced_id,
        "task_id": task.task_id,
        "candidate_id": task.candidate_id,
        "window_id": task.window_id,
        "recipe_id": task.recipe_id,
        "attempt": task.attempt,
        **generation_columns(completion, seed),
        "run_id": run_id,
        "created_at": now,
    }
