"""`caption-assets plan`: what would run under other settings, counted before running it."""

from collections.abc import Mapping, Sequence

from caption_assets import ids
from caption_assets.engines.registry import choose_engine
from caption_assets.ids import ClipId, WindowId
from caption_assets.ledger.database import Ledger
from caption_assets.recipes import Recipe, caption_recipe, enhance_recipe, preview_recipe, retention_recipe, window_recipe
from caption_assets.settings import Settings
from caption_assets.video.windowing import plan_windows


def plan_batches(ledger: Ledger, settings: Settings, engine: str, batch: str | None) -> list[dict[str, object]]:
    """Return, per batch, how many clips would be cut and how many captions, enhancements and previews made.

    Windows are planned from the recorded frame counts, so that nothing is decoded to know. Enhancements are counted as
    an upper bound where captions would be made first: which of them are kept is not known yet.
    """
    entry = choose_engine(engine)
    windows = window_recipe(settings)
    captions = caption_recipe(settings, entry.identify(settings.model, settings.revision))
    enhancement = enhance_recipe(settings, entry.identify(settings.enhance.model, settings.enhance.revision))
    clips = ledger.named("plan_clips", batch=batch, window=windows.recipe_id)
    good = _counts(ledger, captions)
    enhanced = _windows_of(ledger, "enhanced_captions", enhancement)
    shown = _windows_of(ledger, "previews", preview_recipe(settings))
    decided = {
        row["window_id"]
        for row in ledger.query(
            "SELECT DISTINCT window_id FROM retention_decisions WHERE policy_recipe_id = $p AND recipe_id = $c",
            p=retention_recipe(settings).recipe_id,
            c=captions.recipe_id,
        )
    }
    by_batch: dict[str, list[Mapping[str, object]]] = {}
    for clip in clips:
        by_batch.setdefault(str(clip["batch"]), []).append(clip)
    return [
        {
            "batch": name,
            "clips": len(members),
            "clips_to_cut": sum(not clip["is_cut"] for clip in members),
            "windows": len(there := _windows(members, settings, windows)),
            "captions": sum(settings.caption_num - min(good.get(w, 0), settings.caption_num) for w in there),
            "decisions": sum(w not in decided for w in there),
            "enhancements": sum(w not in enhanced for w in there) if settings.enhance.enabled else 0,
            "previews": sum(w not in shown for w in there),
        }
        for name, members in sorted(by_batch.items())
    ]


def _windows(clips: Sequence[Mapping[str, object]], settings: Settings, recipe: Recipe) -> list[WindowId]:
    """Return the ids that the windows of `clips` have, or would have."""
    found = []
    for clip in clips:
        ranges = plan_windows(int(str(clip["n_frames"])), settings.window_size, settings.remainder_threshold)
        clip_id = ClipId(str(clip["clip_id"]))
        found += [ids.window_id(clip_id, r.start, r.end, recipe.recipe_id) for r in ranges]
    return found


def _counts(ledger: Ledger, recipe: Recipe) -> dict[str, int]:
    stage = 2 if recipe.params["stage2_prompt"] is not None else 1
    rows = ledger.query(
        """
        SELECT window_id, count(DISTINCT sample_index) AS n FROM caption_candidates
        WHERE recipe_id = $recipe AND stage = $stage AND status <> 'error' GROUP BY window_id
        """,
        recipe=recipe.recipe_id,
        stage=stage,
    )
    return {str(row["window_id"]): int(str(row["n"])) for row in rows}


def _windows_of(ledger: Ledger, table: str, recipe: Recipe) -> set[object]:
    rows = ledger.query(
        f"SELECT DISTINCT window_id FROM {table} WHERE recipe_id = $recipe AND status <> 'error'",
        recipe=recipe.recipe_id,
    )
    return {row["window_id"] for row in rows}
