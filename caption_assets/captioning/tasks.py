"""Caption work: from what is missing to requests, from completions to candidate rows.

A task is a window under a caption recipe. It asks for `n` candidates; each candidate has its own seed, so that one
that failed is made again alone, with the seed of its next attempt.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from caption_assets import ids
from caption_assets.engines.protocol import Completion, Message, PackedFrames, Request
from caption_assets.ids import CandidateId, RecipeId, TaskId, WindowId
from caption_assets.ledger.schema import CandidateRow
from caption_assets.settings.groups import CaptionSettings

Status = Literal["ok", "truncated", "empty", "refused", "error"]
MOST_TOKENS = 2**31 - 1
"""Largest count that the ledger's columns of tokens hold."""

GOOD_STATUSES: tuple[Status, ...] = ("ok", "truncated")
"""Statuses of a text that a second stage can work on. An enhancement needs a whole one: see `skip_reason`."""


@dataclass(frozen=True)
class Slot:
    """One candidate to make: its index among the n of the task, and which attempt this is (from 1)."""

    sample_index: int
    attempt: int


@dataclass(frozen=True)
class Task:
    """The candidates of a window that a recipe still lacks, in `stage` 1 or 2.

    parents: stage 2 only, the first-stage candidate and its text for each slot.
    """

    window_id: WindowId
    recipe_id: RecipeId
    slots: tuple[Slot, ...]
    stage: int = 1
    parents: tuple[tuple[CandidateId, str], ...] = ()

    @property
    def task_id(self) -> TaskId:
        """The identity of the whole piece of work, whichever slots are left."""
        return ids.task_id("caption", self.window_id, self.recipe_id)

    def candidate_id(self, slot: Slot) -> CandidateId:
        """The identity of the candidate that fills `slot`."""
        return ids.candidate_id(self.task_id, slot.sample_index, slot.attempt, self.stage)

    def seed(self, slot: Slot, base: int | None) -> int:
        """The sampling seed of `slot`: `base` plus its index where a seed is set, else drawn from its identity."""
        if base is not None:
            return (base + slot.sample_index) % (1 << ids.SEED_BITS)
        extra = () if self.stage == 1 else (f"stage{self.stage}",)
        return ids.derived_seed(self.task_id, slot.sample_index, slot.attempt, *extra)


def missing_slots(n: int, made: Sequence[tuple[int, int, str]]) -> tuple[Slot, ...]:
    """Return what is left of `n` candidates, given `(sample_index, attempt, status)` of those that were made.

    A candidate with status error is made again with the next attempt number; any other is done.
    """
    done = {index for index, _, status in made if status != "error"}
    attempts = {index: max(a for i, a, _ in made if i == index) for index, _, _ in made}
    return tuple(Slot(index, attempts.get(index, 0) + 1) for index in range(n) if index not in done)


def first_request(task: Task, ask: CaptionSettings, frames: PackedFrames) -> Request:
    """Return the request for all slots of a stage 1 task."""
    return Request(
        request_id=task.task_id,
        purpose="caption",
        messages=_with_system(ask.system_prompt, Message("user", ask.prompt.text, with_video=True)),
        seeds=[task.seed(slot, ask.seed) for slot in task.slots],
        max_tokens=ask.max_output_tokens,
        sampling=ask.engine_sampling,
        frames=frames,
    )


def second_requests(task: Task, ask: CaptionSettings, frames: PackedFrames) -> list[Request]:
    """Return a request per slot of a stage 2 task: it holds the frames, the first caption and the second prompt."""
    requests = []
    for slot, (_, text) in zip(task.slots, task.parents, strict=True):
        messages = _with_system(
            ask.system_prompt,
            Message("user", ask.prompt.text, with_video=True),
            Message("assistant", text),
            Message("user", f"{ask.stage2_prompt_text}{text}"),
        )
        requests.append(
            Request(
                request_id=f"{task.task_id}/{slot.sample_index}",
                purpose="refine",
                messages=messages,
                seeds=[task.seed(slot, ask.seed)],
                max_tokens=ask.max_output_tokens,
                sampling=ask.engine_sampling,
                frames=frames,
            )
        )
    return requests


def second_stage_of(task: Task, row: CandidateRow) -> Task | None:
    """Return the task that refines the caption in `row`, a first-stage row of `task`; None where it is not good."""
    if row.status not in GOOD_STATUSES:
        return None
    slot = Slot(row.sample_index, attempt=1)
    parent = (CandidateId(row.candidate_id), row.text or "")
    return Task(task.window_id, task.recipe_id, (slot,), stage=2, parents=(parent,))


def status_of(completion: Completion) -> Status:
    """Return the status of a candidate: what is wrong with its text, or ok."""
    if completion.finish_reason == "error":
        return "error"
    if completion.refusal:
        return "refused"
    if not completion.text.strip():
        return "empty"
    return "truncated" if completion.finish_reason == "length" else "ok"


def candidate_row(
    task: Task, position: int, ask: CaptionSettings, completion: Completion, run_id: str, now: datetime
) -> CandidateRow:
    """Return the ledger row of the completion that fills `task.slots[position]`."""
    slot = task.slots[position]
    return CandidateRow(
        candidate_id=task.candidate_id(slot),
        task_id=task.task_id,
        window_id=task.window_id,
        recipe_id=task.recipe_id,
        sample_index=slot.sample_index,
        attempt=slot.attempt,
        stage=task.stage,
        parent_candidate_id=task.parents[position][0] if task.parents else None,
        origin="model",
        status=status_of(completion),
        **generation_columns(completion, task.seed(slot, ask.seed)),
        run_id=run_id,
        created_at=now,
    )


def generation_columns(completion: Completion, seed: int) -> dict[str, Any]:
    """Return the columns that everything an engine writes shares: the answer and how it was made."""
    return {
        "text": storable(completion.text),
        "finish_reason": completion.finish_reason,
        "seed": seed,
        "reasoning": storable(completion.reasoning),
        "expected_prompt_tokens": _count(completion.expected_prompt_tokens),
        "prompt_tokens": _count(completion.prompt_tokens),
        "output_tokens": _count(completion.output_tokens),
        "latency_ms": completion.latency_ms,
        "error": storable(completion.error),
    }


def storable(text: str | None) -> str | None:
    """Return a text that can be written as UTF-8: a server may cut an emoji in two, which leaves half a character."""
    return None if text is None else text.encode("utf-8", "replace").decode()


def _count(number: int | None) -> int | None:
    """Return a count that its column can hold; a server may answer anything."""
    return number if number is not None and 0 <= number <= MOST_TOKENS else None


def _with_system(system_prompt: str | None, *messages: Message) -> tuple[Message, ...]:
    return messages if system_prompt is None else (Message("system", system_prompt), *messages)
