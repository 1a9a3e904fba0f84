"""`caption-assets plan`: what would run under other settings, counted before running it."""

from collections import Counter
from collections.abc import Mapping, Sequence

from caption_assets import ids
from caption_assets.captioning.prompts import ClipPrompts
from caption_assets.engines.registry import choose_engine
from caption_assets.ids import ClipId, RecipeId, WindowId
from caption_assets.ledger.database import Ledger
from caption_assets.orchestration.collapsing import duplicates_in
from caption_assets.orchestration.prompting import check_prompt_key, prompts_of_clips, recipes_of_clips
from caption_assets.recipes import (
    Recipe,
    caption_recipe,
    clip_recipe,
    enhance_recipe,
    preview_recipe,
    retention_recipe,
    split_recipe,
    window_recipe,
)
from caption_assets.settings import Settings
from caption_assets.video.splitting import stride_parts
from caption_assets.video.windowing import plan_windows


def plan_batches(ledger: Ledger, settings: Settings, engine: str, batch: str | None) -> list[dict[str, object]]:
    """Return, per batch, how many clips would be cut and how many captions, enhancements and previews made.

    Windows are planned from the recorded frame counts, so that nothing is decoded to know. A file that is still to be
    split counts with the clips that a stride makes at its average frame rate, or as one clip where its scenes have to
    be found first. Enhancements are counted as an upper bound where captions would be made or decided on first: which
    of them are kept is not known yet. So are captions of clips that would be cut first: which of their windows look
    alike is not known yet.
    """
    entry = choose_engine(engine)
    probing, splitting, windows = clip_recipe(settings), split_recipe(settings), window_recipe(settings)
    identity = entry.identify(settings.caption_spec)
    captions = caption_recipe(settings, identity)
    prompts = _prompts(ledger, settings, batch)
    own = {
        name: {clip: recipe.recipe_id for clip, recipe in recipes_of_clips(settings, identity, given, captions).items()}
        for name, given in prompts.items()
    }
    asked = sorted({captions.recipe_id, *(recipe for some in own.values() for recipe in some.values())})
    enhancement = enhance_recipe(settings, entry.identify(settings.enhance_spec))
    clips = [
        clip
        for row in ledger.named("plan_clips", batch=batch, window=windows.recipe_id, split=splitting.recipe_id)
        for clip in _would_be(row, settings)
    ]
    good = _counts(ledger, captions, asked)
    shown = {row["window_id"] for row in ledger.named("shown_previews", recipe=preview_recipe(settings).recipe_id)}
    policy = retention_recipe(settings).recipe_id
    kept = ledger.named("plan_enhancements", policy=policy, captions=asked, enhance=enhancement.recipe_id)
    decided = _by_recipe(kept, "n_not_enhanced")
    most_kept = settings.caption_num if settings.keep_candidate_mode == "all" else 1
    damaged = {
        WindowId(str(row["window_id"])) for row in ledger.query("SELECT window_id FROM windows WHERE status = 'error'")
    }
    duplicates = {found.window_id for found in duplicates_in(ledger, settings, batch)}
    by_batch: dict[str, list[Mapping[str, object]]] = {}
    for clip in clips:
        by_batch.setdefault(str(clip["batch"]), []).append(clip)
    rows: list[dict[str, object]] = []
    for name, members in sorted(by_batch.items()):
        counts = Counter[str]()
        for recipe, group in _by_prompt(members, own.get(name, {}), captions.recipe_id).items():
            there = _windows(group, settings, windows) - damaged
            made, judged = good.get(recipe, {}), decided.get(recipe, {})
            collapsed = {w for w in there & duplicates if not made.get(w, 0)}
            alone = there - collapsed
            missing = {w: settings.caption_num - min(made.get(w, 0), settings.caption_num) for w in alone - duplicates}
            to_decide = {w for w in alone if missing.get(w, 0) or w not in judged}
            counts["windows"] += len(there)
            counts["collapsed"] += len(collapsed)
            counts["captions"] += sum(missing.values())
            counts["decisions"] += len(to_decide)
            counts["enhancements"] += sum(most_kept if w in to_decide else judged[w] for w in alone)
            counts["previews"] += sum(w not in shown for w in there)
        rows.append(
            {
                "batch": name,
                "clips": len(members),
                "files_to_probe": len(
                    {c["source_clip_id"] for c in members if c["clip_recipe_id"] != probing.recipe_id}
                ),
                "files_to_split": len({c["source_clip_id"] for c in members if not c["is_split"]})
                if settings.split != "none"
                else 0,
                "clips_to_cut": sum(not clip["is_cut"] for clip in members),
                "windows": counts["windows"],
                "collapsed": counts["collapsed"],
                "captions": counts["captions"],
                "decisions": counts["decisions"],
                "enhancements": counts["enhancements"] if settings.enhance.enabled else 0,
                "previews": counts["previews"],
            }
        )
        if settings.prompt_key is not None:
            rows[-1]["own_prompts"] = len(prompts[name].own) if name in prompts else 0
    return rows


def _would_be(row: Mapping[str, object], settings: Settings) -> list[Mapping[str, object]]:
    """Return the clips that a row of `plan_clips.sql` stands for: itself, or those that a stride would make of it."""
    if settings.split != "stride" or row["is_split"]:
        return [row]
    n_frames, fps, duration_s = int(str(row["n_frames"])), float(str(row["fps"])), float(str(row["duration_s"]))
    parts = stride_parts(
        [frame / fps for frame in range(n_frames)],
        duration_s,
        length_s=settings.split_length_s,
        min_length_s=settings.min_clip_length_s,
    )
    if len(parts) == 1:
        return [row]
    sha256 = str(row["video_sha256"])
    clips = [(ids.clip_id(sha256, (part.start, part.end)), part.end - part.start + 1) for part in parts]
    return [{**row, "clip_id": clip, "n_frames": n, "is_cut": False} for clip, n in clips]


def _windows(clips: Sequence[Mapping[str, object]], settings: Settings, recipe: Recipe) -> set[WindowId]:
    """Return the ids that the windows of `clips` have, or would have."""
    found: set[WindowId] = set()
    for clip in clips:
        ranges = plan_windows(int(str(clip["n_frames"])), settings.window_size, settings.remainder_threshold)
        clip_id = ClipId(str(clip["clip_id"]))
        found |= {ids.window_id(clip_id, r.start, r.end, recipe.recipe_id) for r in ranges}
    return found


def _prompts(ledger: Ledger, settings: Settings, batch: str | None) -> dict[str, ClipPrompts]:
    """Return the prompts of clips per batch. A key that only some batches lack is refused when these are run."""
    prompts = prompts_of_clips(ledger, settings, batch)
    if not any(given.is_column for given in prompts.values()):
        for name, given in prompts.items():
            check_prompt_key(ledger, settings, name, given)
    return prompts


def _by_prompt(
    clips: Sequence[Mapping[str, object]], own: Mapping[str, RecipeId], of_batch: RecipeId
) -> dict[RecipeId, list[Mapping[str, object]]]:
    """Return the clips by the caption recipe that each of them has."""
    groups: dict[RecipeId, list[Mapping[str, object]]] = {}
    for clip in clips:
        groups.setdefault(own.get(str(clip["source_clip_id"]), of_batch), []).append(clip)
    return groups


def _counts(ledger: Ledger, recipe: Recipe, asked: Sequence[RecipeId]) -> dict[str, dict[str, int]]:
    """Return how many good captions each window has, by caption recipe. All of them have the stages of `recipe`."""
    stage = 2 if recipe.params["stage2_prompt"] is not None else 1
    rows = ledger.query(
        """
        SELECT recipe_id, window_id, count(DISTINCT sample_index) AS n FROM caption_candidates
        WHERE recipe_id IN (SELECT unnest($asked)) AND stage = $stage AND status <> 'error'
        GROUP BY recipe_id, window_id
        """,
        asked=list(asked),
        stage=stage,
    )
    return _by_recipe(rows, "n")


def _by_recipe(rows: Sequence[Mapping[str, object]], column: str) -> dict[str, dict[str, int]]:
    """Return the number in `column` of each window, by recipe."""
    found: dict[str, dict[str, int]] = {}
    for row in rows:
        found.setdefault(str(row["recipe_id"]), {})[str(row["window_id"])] = int(str(row[column]))
    return found
