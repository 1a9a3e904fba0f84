"""A prompt per clip: which clips of a batch have one, and which caption recipe is then current for each."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from caption_assets.engines.protocol import EngineIdentity
from caption_assets.ledger.database import Ledger
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


def clip_prompts(rows: Iterable[Mapping[str, object]]) -> dict[str, ClipPrompts]:
    """Return the prompts of each batch's clips, from rows of `ledger/sql/clip_columns.sql`.

    A value that is no text counts as if it were not there; "" is a text. Of the files of one clip the first that has a
    text says which.
    """
    found: dict[str, dict[str, list[str]]] = {}
    columns: set[str] = set()
    for row in rows:
        batch = str(row["batch"])
        texts = found.setdefault(batch, {}).setdefault(str(row["clip_id"]), [])
        if row["is_there"]:
            columns.add(batch)
        if row["text"] is not None:
            texts.append(str(row["text"]))
    return {
        batch: ClipPrompts(
            own={clip: texts[0] for clip, texts in clips.items() if texts},
            n_others=sum(not texts for texts in clips.values()),
            is_column=batch in columns,
            n_ambiguous=sum(len(set(texts)) > 1 for texts in clips.values()),
        )
        for batch, clips in found.items()
    }


def prompts_of_clips(ledger: Ledger, settings: Settings, batch: str | None) -> dict[str, ClipPrompts]:
    """Return what `caption.prompt_key` stands for, per batch, for one batch or all; nothing where it is not set."""
    if settings.caption.prompt_key is None:
        return {}
    pointer = "/" + settings.caption.prompt_key.replace("~", "~0").replace("/", "~1")  # RFC 6901
    return clip_prompts(ledger.named("clip_columns", pointer=pointer, batch=batch))


def check_prompt_key(ledger: Ledger, settings: Settings, batch: str, prompts: ClipPrompts | None) -> None:
    """Refuse a key that no clip of a batch has. A batch without clips has nothing to ask about.

    Raises:
        SettingsError: there is no such key; it says which there are.
    """
    if prompts is None or prompts.is_column:
        return
    known = [repr(row["name"]) for row in ledger.named("column_names", batch=batch)]
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
    current = {row["clip_id"]: row["recipe_id"] for row in ledger.named("batch_clip_recipes", batch=batch)}
    changed = {clip: recipe for clip, recipe in recipes.items() if current.get(clip) != recipe.recipe_id}
    withdrawn = [clip for clip in current if clip not in recipes]
    if not changed and not withdrawn:
        return
    [before] = ledger.query("SELECT max(valid_from) AS newest FROM clip_recipes WHERE batch = $batch", batch=batch)
    since = valid_after(before["newest"])
    made = {"batch": batch, "valid_from": since, "run_id": run_id, "created_at": datetime.now(UTC)}
    rows = [
        *({**made, "clip_id": c, "recipe_id": r.recipe_id, "prompt_key": prompt_key} for c, r in changed.items()),
        *({**made, "clip_id": clip} for clip in withdrawn),
    ]
    different = {recipe.recipe_id: recipe for recipe in changed.values()}
    stored = [recipe_rows(recipe, batch, "", run_id) for recipe in different.values()]
    ledger.commit(
        run_id,
        batch,
        {
            "prompts": [row for each in stored for row in each["prompts"]],
            "recipes": [row for each in stored for row in each["recipes"]],
            "clip_recipes": rows,
        },
    )
