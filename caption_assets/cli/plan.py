"""`caption-assets plan`: what would run under other settings, counted before running it."""

from collections.abc import Mapping, Sequence

from caption_assets import ids
from caption_assets.engines.registry import choose_engine
from caption_assets.ids import ClipId, WindowId
from caption_assets.ledger.database import Ledger
from caption_assets.orchestration.collapsing import duplicates_in
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
    captions = caption_recipe(settings, entry.identify(settings.caption_spec))
    enhancement = enhance_recipe(settings, entry.identify(settings.enhance_spec))
    clips = [
        clip
        for row in ledger.named("plan_clips", batch=batch, window=windows.recipe_id, split=splitting.recipe_id)
        for clip in _would_be(row, settings)
    ]
    good = _counts(ledger, captions)
    shown = {row["window_id"] for row in ledger.named("shown_previews", recipe=preview_recipe(settings).recipe_id)}
    decided = {
        row["window_id"]: int(str(row["n_not_enhanced"]))
        for row in ledger.named(
            "plan_enhancements",
            policy=retention_recipe(settings).recipe_id,
            caption=captions.recipe_id,
            enhance=enhancement.recipe_id,
        )
    }
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
        there = _windows(members, settings, windows) - damaged
        collapsed = {w for w in there & duplicates if not good.get(w, 0)}
        own = there - collapsed
        missing = {w: settings.caption_num - min(good.get(w, 0), settings.caption_num) for w in own - duplicates}
        to_decide = {w for w in own if missing.get(w, 0) or w not in decided}
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
                "windows": len(there),
                "collapsed": len(collapsed),
                "captions": sum(missing.values()),
                "decisions": len(to_decide),
                "enhancements": sum(most_kept if w in to_decide else decided[w] for w in own)
                if settings.enhance.enabled
                else 0,
                "previews": sum(w not in shown for w in there),
            }
        )
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
