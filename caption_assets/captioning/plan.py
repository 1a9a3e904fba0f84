"""From candidate rows that are there to the tasks that are left, for the first stage and the second."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from caption_assets import ids
from caption_assets.captioning.tasks import GOOD_STATUSES, Slot, Task, missing_slots
from caption_assets.ids import CandidateId, RecipeId, WindowId
from caption_assets.ledger.schema import CandidateRow


def first_stage_tasks(windows: Mapping[WindowId, RecipeId], made: Sequence[CandidateRow], n: int) -> list[Task]:
    """Return a task for each window that lacks first-stage candidates of its recipe, in the order of `windows`.

    Those that failed before come last, so that windows which kill the engine never keep others from their turn.

    made: candidate rows of any window and stage, by the recipe of the window.
    """
    by_window = _group(made, stage=1)
    tasks = []
    for window, recipe in windows.items():
        known = [_made(row) for row in by_window.get(window, [])]
        if slots := missing_slots(n, known):
            tasks.append(Task(window, recipe, slots))
    return sorted(tasks, key=lambda task: max(slot.attempt for slot in task.slots))


def second_stage_tasks(windows: Mapping[WindowId, RecipeId], made: Sequence[CandidateRow]) -> list[Task]:
    """Return a task for each window with first-stage captions that have no second stage yet."""
    firsts, seconds = _group(made, stage=1), _group(made, stage=2)
    tasks = []
    for window, recipe in windows.items():
        known = [_made(row) for row in seconds.get(window, [])]
        done = {index for index, _, status in known if status != "error"}
        slots, parents = [], []
        for row in firsts.get(window, []):
            index = row.sample_index
            if row.status not in GOOD_STATUSES or index in done:
                continue
            attempt = max((a for i, a, _ in known if i == index), default=0) + 1
            slots.append(Slot(index, attempt))
            parents.append((CandidateId(row.candidate_id), row.text or ""))
        if slots:
            tasks.append(Task(window, recipe, tuple(slots), stage=2, parents=tuple(parents)))
    return tasks


def original_row(window: WindowId, text: str, recipe: RecipeId, run_id: str, now: datetime) -> CandidateRow:
    """Return the candidate row of a caption that came with the video."""
    task = ids.task_id("original", window, recipe)
    return CandidateRow(
        candidate_id="k" + ids.digest(task, text),
        task_id=task,
        window_id=window,
        recipe_id=recipe,
        sample_index=0,
        attempt=1,
        stage=1,
        origin="original",
        status="ok",
        text=text,
        run_id=run_id,
        created_at=now,
    )


def _group(rows: Sequence[CandidateRow], stage: int) -> dict[str, list[CandidateRow]]:
    grouped: dict[str, list[CandidateRow]] = {}
    for row in rows:
        if row.stage == stage:
            grouped.setdefault(row.window_id, []).append(row)
    return grouped


def _made(row: CandidateRow) -> tuple[int, int, str]:
    return row.sample_index, row.attempt, row.status
