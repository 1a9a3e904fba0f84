"""The windows of all batches of a run through one engine: answers become rows as they come.

Frames are read just before they are sent. A second stage is sent as soon as its first caption is there, so that nothing
waits for the slowest of a batch.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from caption_assets.captioning.tasks import Task, candidate_row, first_request, second_requests, second_stage_of
from caption_assets.engines.dispatcher import Asked, Dispatcher
from caption_assets.engines.protocol import PackedFrames
from caption_assets.ids import RecipeId, WindowId
from caption_assets.ledger.schema import CandidateRow
from caption_assets.settings.groups import CaptionSettings

FramesOf = Callable[[WindowId], PackedFrames | str]
"""Returns a window's frames, or the reason why there are none."""

Asks = Mapping[RecipeId, CaptionSettings]
"""What each caption recipe asks, of every window that it is the recipe of."""


@dataclass(frozen=True)
class Job:
    """The tasks of one batch, and where the frames of its windows come from."""

    batch: str
    tasks: Sequence[Task]
    frames_of: FramesOf


Filling = tuple[Job, Task, Sequence[int]]
"""What a request is for: the slots of a task at these positions."""


def caption_stream(
    dispatcher: Dispatcher[Filling], jobs: Iterable[Job], asks: Asks, run_id: str, *, two_stages: bool = False
) -> Iterator[tuple[str, CandidateRow]]:
    """Yield the batch and the candidate row of every slot of every task, in the order in which the engine finishes.

    A slot whose frames cannot be had, or that the engine leaves out, gets an error row. two_stages: refine each good
    first caption, which is one more row.
    """
    asked = (each for job in jobs for task in job.tasks for each in _requests(job, task, asks[task.recipe_id]))
    for (job, task, positions), completion in dispatcher.answers(asked):
        ask = asks[task.recipe_id]
        position = positions[completion.sample_index]
        row = candidate_row(task, position, ask, completion, run_id, datetime.now(UTC))
        if two_stages and task.stage == 1 and (second := second_stage_of(task, row)):
            dispatcher.follow_up(_requests(job, second, ask))
        yield job.batch, row


def _requests(job: Job, task: Task, ask: CaptionSettings) -> Iterator[Asked[Filling]]:
    """Read the frames of a task's window, and yield its requests: one for all slots, in stage 2 one for each."""
    frames = job.frames_of(task.window_id)
    positions = range(len(task.slots))
    if isinstance(frames, str):
        yield from (((job, task, [position]), frames) for position in positions)
    elif task.stage == 1:
        yield (job, task, positions), first_request(task, ask, frames)
    else:
        for position, request in enumerate(second_requests(task, ask, frames)):
            yield (job, task, [position]), request
