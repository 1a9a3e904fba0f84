"""`caption-assets plan`: what would run under other settings, counted before running it."""

import json

from caption_assets.engines.protocol import EngineSpec
from caption_assets.engines.registry import choose_engine
from caption_assets.ledger.database import Ledger
from caption_assets.pipeline.clip_prompts import ClipPrompts, check_prompt_key, prompts_of_clips, recipes_of_clips
from caption_assets.pipeline.dedupe import duplicates_in
from caption_assets.settings import Settings
from caption_assets.settings.recipes import (
    caption_recipe,
    clip_recipe,
    enhance_recipe,
    preview_recipe,
    retention_recipe,
    split_recipe,
    window_recipe,
)
from caption_assets.video.splitting import stride_parts


def plan_batches(ledger: Ledger, settings: Settings, engine: str, batch: str | None) -> list[dict[str, object]]:
    """Return, per batch, how many clips would be cut and how many captions, enhancements and previews made.

    Windows are planned from the recorded frame counts, so that nothing is decoded to know. A file that is still to be
    split counts with the clips that a stride makes at its average frame rate, or as one clip where its scenes have to
    be found first. A clip that a takedown hides does not count, nor does a part that would hold a hidden frame; their
    file does where it would be probed or split. Enhancements are counted as an upper bound where captions would be made
    or decided on first: which of them are kept is not known yet. So are captions of clips that would be cut first:
    which of their windows look alike is not known yet. own_prompts, with a prompt
    key: clips that have one.
    """
    entry = choose_engine(engine)
    identity = entry.identify(EngineSpec.for_captions(settings))
    captions = caption_recipe(settings, identity)
    prompts = _prompts(ledger, settings, batch)
    own = [
        {"batch": name, "source_clip_id": clip, "recipe_id": recipe.recipe_id}
        for name, given in prompts.items()
        for clip, recipe in recipes_of_clips(settings, identity, given, captions).items()
    ]
    enhancement = enhance_recipe(settings, entry.identify(EngineSpec.for_enhancement(settings)))
    split = split_recipe(settings).recipe_id
    rows: list[dict[str, object]] = ledger.named(
        "plan_counts",
        batch=batch,
        probing=clip_recipe(settings).recipe_id,
        split=split,
        splits=settings.clip.split != "none",
        scenes=settings.clip.split == "scenes",
        shapes=json.dumps(_shapes(ledger, settings, split, batch)),
        window=window_recipe(settings).recipe_id,
        size=settings.window.window_size,
        threshold=settings.window.remainder_threshold,
        alike=[found.window_id for found in duplicates_in(ledger, settings, batch)],
        caption=captions.recipe_id,
        own=json.dumps(own),
        stage=2 if captions.params["stage2_prompt"] is not None else 1,
        n=settings.caption.caption_num,
        policy=retention_recipe(settings).recipe_id,
        most_kept=settings.caption.caption_num if settings.retention.keep_candidate_mode == "all" else 1,
        enhance=enhancement.recipe_id if settings.enhance.enabled else None,
        preview=preview_recipe(settings).recipe_id,
    )
    if settings.caption.prompt_key is None:
        return rows
    # A batch that came in between is asked with the prompt of the settings, as far as this knows.
    own_prompts = {name: len(given.own) for name, given in prompts.items()}
    return [{**row, "own_prompts": own_prompts.get(str(row["batch"]), 0)} for row in rows]


def _prompts(ledger: Ledger, settings: Settings, batch: str | None) -> dict[str, ClipPrompts]:
    """Return the prompts of clips per batch. A key that only some batches lack is refused when these are run."""
    prompts = prompts_of_clips(ledger, settings, batch)
    if not any(given.is_column for given in prompts.values()):
        for name, given in prompts.items():
            check_prompt_key(ledger, settings, name, given)
    return prompts


def _shapes(ledger: Ledger, settings: Settings, split: str, batch: str | None) -> list[dict[str, object]]:
    """Return how a stride would split files that it has not split, by length and rate, where it makes parts of them."""
    if settings.clip.split != "stride":
        return []
    found = []
    for row in ledger.named("plan_files", batch=batch, split=split):
        n_frames, fps = int(row["n_frames"]), float(row["fps"])
        parts = stride_parts(
            [frame / fps for frame in range(n_frames)],
            float(row["duration_s"]),
            length_s=settings.clip.split_length_s,
            min_length_s=settings.clip.min_clip_length_s,
        )
        if len(parts) > 1:
            found.append({**row, "first_frames": [part.start for part in parts]})
    return found
