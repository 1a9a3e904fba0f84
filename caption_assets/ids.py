"""Content-addressed identity: the same content and the same recipe give the same id on every machine.

An id is the first 128 bits of a SHA-256 over its parts, joined by the unit separator U+001F, as lower-case hex behind
a one-letter prefix. A window's position in a list is never part of its identity, only its frames are.
"""

import hashlib
from typing import NewType

ClipId = NewType("ClipId", str)
WindowId = NewType("WindowId", str)
RecipeId = NewType("RecipeId", str)
TaskId = NewType("TaskId", str)
CandidateId = NewType("CandidateId", str)

UNIT_SEPARATOR = "\x1f"
ID_HEX_DIGITS = 32  # 128 bits: a billion ids collide with a probability below 1e-20
SEED_BITS = 32

PERSON = "user:"
"""Put before a person's name where a policy or a run could stand too."""


def digest(*parts: object) -> str:
    """Return the 32 hex digits that identify `parts` (their `str`, joined by U+001F)."""
    joined = UNIT_SEPARATOR.join(str(part) for part in parts)
    return hashlib.sha256(joined.encode()).hexdigest()[:ID_HEX_DIGITS]


def clip_id(video_sha256: str, cut: tuple[int, int] | None = None) -> ClipId:
    """Identify a clip by the bytes of its video, whatever its name or batch.

    cut: first and last frame (inclusive) of a clip that is a part of its file. How it came to be cut out is not part of
    its identity.
    """
    return ClipId("c" + digest(video_sha256, *(cut or ())))


def window_id(clip: ClipId, start_frame: int, end_frame: int, window_recipe: RecipeId) -> WindowId:
    """Identify the frames `start_frame` to `end_frame` (inclusive) of a clip, sampled by `window_recipe`."""
    return WindowId("w" + digest(clip, start_frame, end_frame, window_recipe))


def recipe_id(kind: str, canonical_json: str) -> RecipeId:
    """Identify a recipe by its kind and its canonical JSON (see `caption_assets.settings.recipes`)."""
    return RecipeId("r" + digest(kind, canonical_json))


def task_id(kind: str, subject: str, recipe: RecipeId) -> TaskId:
    """Identify one piece of model work: `kind` of recipe applied to a window or a candidate."""
    return TaskId("t" + digest(kind, subject, recipe))


def candidate_id(task: TaskId, sample_index: int, attempt: int, stage: int = 1) -> CandidateId:
    """Identify candidate `sample_index` (from 0) of a task in its `attempt` (from 1).

    Stage 2 rewrites the same sample of the same task, so its id adds the stage.
    """
    parts = (task, sample_index, attempt) if stage == 1 else (task, sample_index, attempt, f"stage{stage}")
    return CandidateId("k" + digest(*parts))


def derived_seed(*parts: object) -> int:
    """Return the low 32 bits of the digest of `parts`: a seed that can always be drawn again.

    Candidates use `derived_seed(task, sample_index, attempt)`.
    """
    return int(digest(*parts), 16) & ((1 << SEED_BITS) - 1)
