"""A prompt per clip: which clips of a batch have one, and which caption recipe is then current for each."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from caption_assets.engines.protocol import EngineIdentity
from caption_assets.ledger import upkeep
from caption_assets.ledger.database import Ledger
from caption_assets.ledger.schema import ClipRecipeRow
from caption_assets.ledger.store import Session
from caption_assets.pipeline.stage_run import recipe_rows, valid_after
from caption_assets.settings import Settings, SettingsError
from caption_assets.settings.recipes import Recipe, caption_recipe

SHOWN_KEYS = 20


@dataclass(frozen=True)
class ClipPrompts:
    """What a key stands for in the columns of a batch's clips.

    own: the prompt of each clip that has one. n_others: how many have none. is_column: the key is there, if only with
    values that are no texts. n_ambiguous: clips that lie in the batch more than once, with prompts that differ.
    """

    own: Mapping[str, str]
    n_others: int
    is_column: bool
    n_ambiguous: int = 0


@dataclass(frozen=True, slots=True)
class FileColumns:
    """The columns of a file's JSON sidecar, or of a sample that it was imported with (sample_index from 0, else -1)."""

    batch: str
    clip_id: str
    path: str
    status: str
    columns: str | None
    sample_index: int

    @property
    def values(self) -> dict[str, object]:
        """The columns by name; none where the document is no object."""
        document = json.loads(self.columns or "{}")
        return document if isinstance(document, dict) else {}


def clip_prompts(files: Iterable[FileColumns], key: str) -> dict[str, ClipPrompts]:
    """Return the prompts that `key` gives each batch's clips.

    A value that is no text counts as if it were not there; "" is a text. Of the files of one clip the first that has a
    text says which.
    """
    texts: dict[str, dict[str, list[str]]] = {}
    columns: set[str] = set()
    for file in sorted(files, key=lambda file: (file.batch, file.status != "ok", file.path, file.sample_index)):
        of_clip = texts.setdefault(file.batch, {}).setdefault(file.clip_id, [])
        values = file.values
        if key in values:
            columns.add(file.batch)
        if isinstance(text := values.get(key), str):
            of_clip.append(text)
    return {
        batch: ClipPrompts(
            own={clip: own[0] for clip, own in clips.items() if own},
            n_others=sum(not own for own in clips.values()),
            is_column=batch in columns,
            n_ambiguous=sum(len(set(own)) > 1 for own in clips.values()),
        )
        for batch, clips in texts.items()
    }


def read_columns(session: Session, batch: str | None) -> list[FileColumns]:
    """Return the columns that came with the files of a batch, or of all, that are not taken down."""
    which = "($batch IS NULL OR u.batch = $batch)"
    visible = """u.clip_id IS NOT NULL AND NOT EXISTS (
        SELECT 1 FROM standing_takedowns t WHERE t.object_kind = 'clip' AND t.object_id = u.clip_id)"""
    sidecars = f"(SELECT u.*, -1 AS sample_index FROM live_uploads u WHERE {visible} AND {which}) files"
    samples = f"""(
        SELECT u.batch, u.clip_id, u.path, u.status, s.columns, s.sample_index
        FROM (SELECT batch, sample_index, columns, unnest(videos) AS path FROM samples) s
        JOIN live_uploads u ON u.batch = s.batch AND u.path = s.path
        WHERE {visible} AND {which}) files"""
    return [
        *session.select(FileColumns, sidecars, batch=batch),
        *session.select(FileColumns, samples, batch=batch),
    ]


def prompts_of_clips(ledger: Ledger, settings: Settings, batch: str | None) -> dict[str, ClipPrompts]:
    """Return what `caption.prompt_key` stands for, per batch, for one batch or all; nothing where it is not set."""
    if settings.caption.prompt_key is None:
        return {}
    return clip_prompts(ledger.read(read_columns, batch), settings.caption.prompt_key)


def check_prompt_key(ledger: Ledger, settings: Settings, batch: str, prompts: ClipPrompts | None) -> None:
    """Refuse a key that no clip of a batch has. A batch without clips has nothing to ask about.

    Raises:
        SettingsError: there is no such key; it says which there are.
    """
    if prompts is None or prompts.is_column:
        return
    known = sorted({repr(name) for file in ledger.read(read_columns, batch) for name in file.values})
    there = f"keys that are there: {', '.join(known[:SHOWN_KEYS])}" if known else "no clip has a JSON sidecar with keys"
    raise SettingsError(
        f"caption.prompt_key: no clip of the batch {batch!r} has the key {settings.caption.prompt_key!r} in a JSON "
        f"sidecar (clip.json beside clip.mp4) that the ledger knows; {there}. Sidecars are read by raw_clips: where "
        "they are new, run the batch, or materialize raw_clips, first"
    )


def recipes_of_clips(
    settings: Settings, identity: EngineIdentity, prompts: ClipPrompts, of_batch: Recipe
) -> dict[str, Recipe]:
    """Return the caption recipe of each clip that is asked something else than the rest of its batch."""
    by_text = {text: caption_recipe(settings, identity, text) for text in set(prompts.own.values())}
    own = {clip: by_text[text] for clip, text in prompts.own.items()}
    return {clip: recipe for clip, recipe in own.items() if recipe.recipe_id != of_batch.recipe_id}


def activate_for_clips(
    ledger: Ledger, batch: str, recipes: Mapping[str, Recipe], prompt_key: str | None, run_id: str
) -> None:
    """Make each recipe current for its clip in this batch, and that of the batch for every clip that is not named."""
    with ledger.session() as session:
        known = upkeep.clip_recipes(session, batch)
        active = session.select(ClipRecipeRow, "clip_recipes WHERE batch = $batch", batch=batch)
    current = {clip: recipe for clip, recipe in known.items() if recipe is not None}
    changed = {clip: recipe for clip, recipe in recipes.items() if current.get(clip) != recipe.recipe_id}
    withdrawn = [clip for clip in current if clip not in recipes]
    if not changed and not withdrawn:
        return
    since = valid_after(max((row.valid_from for row in active), default=None))
    made: dict[str, Any] = {"batch": batch, "valid_from": since, "run_id": run_id, "created_at": datetime.now(UTC)}
    different = {recipe.recipe_id: recipe for recipe in changed.values()}
    ledger.commit(
        [
            *(row for recipe in different.values() for row in recipe_rows(recipe, run_id)),
            *(
                ClipRecipeRow(clip_id=c, recipe_id=r.recipe_id, prompt_key=prompt_key, **made)
                for c, r in changed.items()
            ),
            *(ClipRecipeRow(clip_id=clip, **made) for clip in withdrawn),
        ]
    )
