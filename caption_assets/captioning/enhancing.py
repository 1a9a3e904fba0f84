"""Enhancement work: from kept captions to requests, from completions to rows of enhanced captions."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from caption_assets import ids
from caption_assets.captioning.stream import FramesOf
from caption_assets.captioning.tasks import generation_columns, status_of
from caption_assets.engines.dispatcher import Asked, Dispatcher
from caption_assets.engines.protocol import Completion, Message, PackedFrames, Request
from caption_assets.ids import CandidateId, RecipeId, TaskId, WindowId
from caption_assets.ledger.schema import EnhancedRow
from caption_assets.settings.groups import EnhanceSettings


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


@dataclass(frozen=True)
class EnhanceJob:
    """The tasks of one batch. frames_of is None for an engine that reads the text."""

    batch: str
    tasks: Sequence[EnhanceTask]
    frames_of: FramesOf | None = None


def enhance_stream(
    dispatcher: Dispatcher[tuple[str, EnhanceTask]],
    jobs: Iterable[EnhanceJob],
    *,
    enhance: EnhanceSettings,
    sampling: Mapping[str, object],
    run_id: str,
    clock: Callable[[], datetime],
) -> Iterator[tuple[str, EnhancedRow]]:
    """Yield the batch and a row for every task, in the order in which the engine finishes."""

    def asked() -> Iterator[Asked[tuple[str, EnhanceTask]]]:
        for job in jobs:
            for task in job.tasks:
                frames = job.frames_of(task.window_id) if job.frames_of else None
                if isinstance(frames, str):
                    yield (job.batch, task), frames
                else:
                    yield (job.batch, task), enhance_request(task, enhance, sampling, frames)

    for (batch, task), completion in dispatcher.answers(asked()):
        yield batch, enhanced_row(task, completion, task.seed(sampling), run_id, clock())


def enhance_request(
    task: EnhanceTask, enhance: EnhanceSettings, sampling: Mapping[str, object], frames: PackedFrames | None
) -> Request:
    """Return the request: the prompt as the system turn, the caption as the user's."""
    return Request(
        request_id=task.task_id,
        purpose="enhance",
        messages=(Message("system", enhance.prompt.text), Message("user", task.caption)),
        seeds=[task.seed(sampling)],
        max_tokens=enhance.max_output_tokens,
        sampling={name: value for name, value in sampling.items() if name != "seed"},
        frames=frames,
    )


def enhanced_row(task: EnhanceTask, completion: Completion, seed: int, run_id: str, now: datetime) -> EnhancedRow:
    """Return the ledger row of a completion, with the caption it was made from."""
    return EnhancedRow(
        enhanced_id=task.enhanced_id,
        task_id=task.task_id,
        candidate_id=task.candidate_id,
        window_id=task.window_id,
        recipe_id=task.recipe_id,
        attempt=task.attempt,
        status=status_of(completion),
        **generation_columns(completion, seed),
        run_id=run_id,
        created_at=now,
    )
