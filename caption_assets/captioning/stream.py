"""The windows of all batches of a run through one engine: one queue, answers become rows as they come.

Frames are read just before they are sent. A second stage is sent as soon as its first caption is there, so that nothing
waits for the slowest of a batch.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from caption_assets.captioning.tasks import (
    Task,
    candidate_row,
    first_request,
    second_requests,
    second_stage_of,
)
from caption_assets.engines.protocol import Completion, PackedFrames, Request
from caption_assets.ids import RecipeId, WindowId
from caption_assets.settings.groups import CaptionSettings

NO_ANSWER = "the engine gave no answer"

Row = dict[str, object]
Item = TypeVar("Item")

FramesOf = Callable[[WindowId], PackedFrames | str]
"""Returns a window's frames, or the reason why there are none."""

Asks = Mapping[RecipeId, CaptionSettings]
"""What each caption recipe asks, of every window that it is the recipe of."""

Stream = Callable[[Iterable[Request | None]], Iterator[Completion]]
"""What an engine does: requests in, completions out (`Engine.stream`)."""


@dataclass(frozen=True)
class Job:
    """The tasks of one batch, and where the frames of its windows come from."""

    batch: str
    tasks: Sequence[Task]
    frames_of: FramesOf


def caption_stream(
    stream: Stream, jobs: Iterable[Job], asks: Asks, run_id: str, *, two_stages: bool = False
) -> Iterator[tuple[str, Row]]:
    """Yield the batch and the candidate row of every slot of every task, in the order in which the engine finishes.

    two_stages: each good first caption is refined at once, which is one more row.
    A slot whose frames cannot be had, or that the engine leaves out, gets an error row: nothing is lost in silence.
    """
    queue = _Queue(jobs, asks, run_id, two_stages=two_stages)
    for completion in stream(queue.requests()):
        yield from queue.take_failed()
        yield queue.take(completion)
    yield from queue.take_failed()
    yield from queue.unanswered()


def answer_each(stream: Stream, asked: Iterable[tuple[Item, Request | str]]) -> Iterator[tuple[Item, Completion]]:
    """Yield each item with the answer to its one request, in the order in which the engine finishes.

    asked: items with what is sent for each, or the reason why nothing can be. The answer is an error there, and where
    the engine leaves a request out: nothing is lost in silence.
    """
    waiting: dict[str, Item] = {}
    failed: list[tuple[Item, str]] = []

    def requests() -> Iterator[Request]:
        for item, request in asked:
            if isinstance(request, str):
                failed.append((item, request))
                continue
            waiting[request.request_id] = item
            yield request

    for completion in stream(requests()):
        yield waiting.pop(completion.request_id), completion
    for item, reason in [*failed, *((item, NO_ANSWER) for item in waiting.values())]:
        yield item, Completion("", 0, "", "error", error=reason)


@dataclass(frozen=True)
class _Waiting:
    """A request in flight: which of its task's slots it fills."""

    batch: str
    task: Task
    frames_of: FramesOf
    positions: tuple[int, ...]
    answered: set[int]


class _Queue:
    """Requests on their way out, on the engine's thread, and answers on their way in, on the caller's."""

    def __init__(self, jobs: Iterable[Job], asks: Asks, run_id: str, *, two_stages: bool) -> None:
        self._first = ((job.batch, task, job.frames_of) for job in jobs for task in job.tasks)
        self._then: deque[tuple[str, Task, FramesOf]] = deque()
        self._asks, self._run_id, self._two_stages = asks, run_id, two_stages
        self._lock = threading.Lock()
        self._waiting: dict[str, _Waiting] = {}
        self._failed: deque[tuple[str, Row]] = deque()

    def requests(self) -> Iterator[Request | None]:
        """Yield what is to be sent: second stages first, since the engine still knows their frames."""
        while True:
            try:
                batch, task, frames_of = self._then.popleft()
            except IndexError:
                following = next(self._first, None)
                if following is None:
                    # Asked in this order: an answer adds its second stage before it leaves the waiting ones.
                    if not self._more_may_follow():
                        if not self._then:
                            return
                    elif not self._then:
                        yield None
                    continue
                batch, task, frames_of = following
            yield from self._requests_of(batch, task, frames_of)

    def take(self, completion: Completion) -> tuple[str, Row]:
        """Return the row of an answer."""
        waiting = self._waiting[completion.request_id]
        task, position = waiting.task, waiting.positions[completion.sample_index]
        row = candidate_row(task, position, self._asks[task.recipe_id], completion, self._run_id, datetime.now(UTC))
        if self._two_stages and task.stage == 1 and (second := second_stage_of(task, row)):
            self._then.append((waiting.batch, second, waiting.frames_of))
        with self._lock:
            waiting.answered.add(completion.sample_index)
            if len(waiting.answered) == len(waiting.positions):
                del self._waiting[completion.request_id]
        return waiting.batch, row

    def take_failed(self) -> Iterator[tuple[str, Row]]:
        """Yield the rows of slots whose frames could not be had."""
        while self._failed:
            yield self._failed.popleft()

    def unanswered(self) -> Iterator[tuple[str, Row]]:
        """Yield error rows for what the engine left out."""
        for waiting in self._waiting.values():
            for index, position in enumerate(waiting.positions):
                if index not in waiting.answered:
                    yield waiting.batch, self._error_row(waiting.task, position, NO_ANSWER)

    def _more_may_follow(self) -> bool:
        with self._lock:
            return self._two_stages and any(waiting.task.stage == 1 for waiting in self._waiting.values())

    def _requests_of(self, batch: str, task: Task, frames_of: FramesOf) -> Iterator[Request]:
        frames = frames_of(task.window_id)
        if isinstance(frames, str):
            self._failed.extend((batch, self._error_row(task, i, frames)) for i in range(len(task.slots)))
            return
        for request, positions in self._with_positions(task, frames):
            with self._lock:
                self._waiting[request.request_id] = _Waiting(batch, task, frames_of, positions, set())
            yield request

    def _with_positions(self, task: Task, frames: PackedFrames) -> list[tuple[Request, tuple[int, ...]]]:
        """Return the requests of a task, each with the positions of the slots that it fills."""
        ask = self._asks[task.recipe_id]
        if task.stage == 1:
            return [(first_request(task, ask, frames), tuple(range(len(task.slots))))]
        return [(request, (i,)) for i, request in enumerate(second_requests(task, ask, frames))]

    def _error_row(self, task: Task, position: int, error: str) -> Row:
        completion = Completion(task.task_id, 0, "", "error", error=error)
        return candidate_row(task, position, self._asks[task.recipe_id], completion, self._run_id, datetime.now(UTC))
