"""Tasks through an engine: frames are read just before they are sent, answers become rows as they come."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import chain

from caption_assets.captioning.tasks import Ask, Task, candidate_row, first_request, second_requests
from caption_assets.engines.protocol import Completion, Engine, PackedFrames, Request
from caption_assets.ids import WindowId

NO_ANSWER = "the engine gave no answer"

FramesOf = Callable[[WindowId], PackedFrames | str]
"""Returns a window's frames, or the reason why there are none."""


def caption_stream(
    engine: Engine, tasks: Sequence[Task], ask: Ask, frames_of: FramesOf, run_id: str
) -> Iterator[dict[str, object]]:
    """Yield a candidate row for every slot of every task, in the order in which the engine finishes.

    A slot whose frames cannot be had, or that the engine leaves out, gets an error row: nothing is lost in silence.
    """
    waiting: dict[str, tuple[Task, tuple[int, ...]]] = {}
    failed: list[dict[str, object]] = []

    def requests() -> Iterator[Request]:
        for task in tasks:
            frames = frames_of(task.window_id)
            if isinstance(frames, str):
                failed.extend(_error_row(task, i, ask, frames, run_id) for i in range(len(task.slots)))
                continue
            for request, positions in _requests(task, ask, frames):
                waiting[request.request_id] = (task, positions)
                yield request

    answered: set[tuple[str, int]] = set()
    for completion in engine.stream(requests()):
        task, positions = waiting[completion.request_id]
        answered.add((completion.request_id, completion.sample_index))
        yield candidate_row(task, positions[completion.sample_index], ask, completion, run_id, datetime.now(UTC))
    silent = (
        _error_row(task, position, ask, NO_ANSWER, run_id)
        for request_id, (task, positions) in waiting.items()
        for index, position in enumerate(positions)
        if (request_id, index) not in answered
    )
    yield from chain(failed, silent)


def _requests(task: Task, ask: Ask, frames: PackedFrames) -> list[tuple[Request, tuple[int, ...]]]:
    """Return the requests of a task, each with the positions of the slots that it fills."""
    if task.stage == 1:
        return [(first_request(task, ask, frames), tuple(range(len(task.slots))))]
    return [(request, (position,)) for position, request in enumerate(second_requests(task, ask, frames))]


def _error_row(task: Task, position: int, ask: Ask, error: str, run_id: str) -> dict[str, object]:
    completion = Completion(task.task_id, 0, "", "error", error=error)
    return candidate_row(task, position, ask, completion, run_id, datetime.now(UTC))
