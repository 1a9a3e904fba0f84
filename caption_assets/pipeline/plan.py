"""What would run under other settings, counted before it runs."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import cache

from caption_assets import ids
from caption_assets.engines.protocol import EngineSpec
from caption_assets.engines.registry import choose_engine
from caption_assets.ids import ClipId, RecipeId
from caption_assets.ledger import captions, upkeep
from caption_assets.ledger.captions import BatchHistory, CurrentRecipe, group
from caption_assets.ledger.database import Ledger
from caption_assets.ledger.schema import PreviewRow, WindowSetRow
from caption_assets.ledger.store import Session
from caption_assets.pipeline.caption_work import MADE, CaptionRule, candidates_in
from caption_assets.pipeline.clip_prompts import ClipPrompts, check_prompt_key, prompts_of_clips, recipes_of_clips
from caption_assets.pipeline.dedupe import find_in, read_pictures
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
from caption_assets.video.splitting import Part, stride_parts
from caption_assets.video.windowing import plan_windows


@dataclass(frozen=True)
class PlanRules:
    """The settings that are planned for, and the ids of the recipes that they give.

    own: by batch and file, the caption recipe of files that have a prompt of their own.
    """

    settings: Settings
    split: CurrentRecipe
    window: RecipeId
    caption: RecipeId
    caption_rule: CaptionRule
    enhance: RecipeId
    own: Mapping[tuple[str, str], RecipeId]

    @property
    def most_kept(self) -> int:
        """How many captions of a window are kept at most."""
        return self.caption_rule.n if self.settings.retention.keep_candidate_mode == "all" else 1


@dataclass(frozen=True, slots=True)
class PlannedClip:
    """A clip that a batch would have, and the caption recipe of its windows."""

    clip_id: ClipId
    n_frames: int
    recipe_id: RecipeId


@dataclass(frozen=True)
class PlannedBatch:
    """The clips that a batch would have."""

    batch: str
    clips: Sequence[PlannedClip]
    files_to_probe: int
    files_to_split: int


@dataclass
class Done:
    """What the ledger has already of the windows of a plan.

    n_good: candidates that count, by caption recipe and window. to_enhance: kept captions that are not enhanced, by
    caption recipe and window that is decided on. alike: windows that look like an earlier one. cut: clips with all
    their windows.
    """

    n_good: dict[str, dict[str, int]]
    to_enhance: dict[str, dict[str, int]]
    alike: Set[str] = frozenset()
    damaged: Set[str] = frozenset()
    previewed: Set[str] = frozenset()
    cut: Set[str] = frozenset()


COUNTS = ("windows", "collapsed", "captions", "decisions", "enhancements", "previews")


def plan_batches(ledger: Ledger, settings: Settings, engine: str, batch: str | None) -> list[dict[str, object]]:
    """Return, per batch, how many clips would be cut and how many captions, enhancements and previews made.

    Windows are planned from the recorded frame counts, so nothing is decoded. A file that is still to be split counts
    with the clips that a stride makes at its average frame rate, or as one clip where its scenes have to be found
    first. A clip that a takedown hides does not count, nor does a part that would hold a hidden frame; their file does
    where it would be probed or split. Enhancements are an upper bound where captions would be made or decided on first:
    which of them are kept is not known yet. So are captions of clips that would be cut first: which of their windows
    look alike is not known yet. own_prompts, where a prompt key is set: clips that have one.
    """
    prompts = _prompts(ledger, settings, batch)
    rules = _rules(settings, engine, prompts)
    with ledger.session() as session:
        histories = [replace(each, recipes={"split": rules.split}) for each in upkeep.read_files(session, batch)]
        planned = [each for history in histories if (each := plan_files(history, rules)) is not None]
        if batch is not None:
            windows = [name for each in planned for clip in each.clips for name in window_ids(clip, rules)]
            session.put_names("window_id", windows)
        done = _read_done(session, rules, batch)
    rows: list[dict[str, object]] = []
    for each in planned:
        counts = count_work(each.clips, done, rules)
        row: dict[str, object] = {
            "batch": each.batch,
            "clips": len(each.clips),
            "files_to_probe": each.files_to_probe,
            "files_to_split": each.files_to_split,
            "clips_to_cut": sum(clip.clip_id not in done.cut for clip in each.clips),
            **{name: counts[name] for name in COUNTS},
        }
        if settings.caption.prompt_key is not None:
            row["own_prompts"] = len(prompts[each.batch].own) if each.batch in prompts else 0
        rows.append(row)
    return rows


def _prompts(ledger: Ledger, settings: Settings, batch: str | None) -> dict[str, ClipPrompts]:
    """Return the prompts of clips per batch. A key that only some batches lack is refused when these are run."""
    prompts = prompts_of_clips(ledger, settings, batch)
    if not any(given.is_column for given in prompts.values()):
        for name, given in prompts.items():
            check_prompt_key(ledger, settings, name, given)
    return prompts


def _rules(settings: Settings, engine: str, prompts: Mapping[str, ClipPrompts]) -> PlanRules:
    entry, split = choose_engine(engine), split_recipe(settings)
    identity = entry.identify(EngineSpec.for_captions(settings))
    caption = caption_recipe(settings, identity)
    return PlanRules(
        settings=settings,
        split=CurrentRecipe("split", split.recipe_id, split.canonical_json),
        window=window_recipe(settings).recipe_id,
        caption=caption.recipe_id,
        caption_rule=CaptionRule.of(caption.params),
        enhance=enhance_recipe(settings, entry.identify(EngineSpec.for_enhancement(settings))).recipe_id,
        own={
            (batch, clip): recipe.recipe_id
            for batch, given in prompts.items()
            for clip, recipe in recipes_of_clips(settings, identity, given, caption).items()
        },
    )


# Which clips there would be.


def plan_files(history: BatchHistory, rules: PlanRules) -> PlannedBatch | None:
    """Return the clips that a batch would have; None where it has no file.

    history: as it is, but with the split recipe of `rules`.
    """
    split, facts = rules.settings.clip.split, captions.clip_facts(history.clips)
    files = [file for file in captions.batch_files(history) if file.clip_id in facts]
    if not files:
        return None
    splits = captions.split_clips(history)
    unsplit = [file for file in files if split != "none" and (file.clip_id, rules.split.recipe_id) not in splits]
    found = [
        (clip.file, clip.clip_id, facts[clip.clip_id].n_frames)
        for clip in captions.wanted_clips(history) if clip.file.clip_id in facts
    ]  # fmt: skip
    hidden = captions.hidden_frames(history)
    for file in unsplit:
        source = facts[file.clip_id]
        if split == "scenes":
            found.append((file, file.clip_id, source.n_frames))
            continue
        lengths = rules.settings.clip
        parts = _strides(
            source.n_frames, source.fps, source.duration_s, lengths.split_length_s, lengths.min_clip_length_s
        )
        for part in parts:
            if not captions.overlaps(hidden.get(file.clip_id, ()), part.start, part.end):
                is_whole = len(parts) == 1
                clip = file.clip_id if is_whole else ids.clip_id(source.video_sha256, (part.start, part.end))
                found.append((file, clip, part.end - part.start + 1))
    probe = clip_recipe(rules.settings).recipe_id
    probed_by = {row.path: row.recipe_id for row in captions.current_uploads(history)}
    return PlannedBatch(
        batch=history.batch,
        clips=[
            PlannedClip(ClipId(clip), n_frames, rules.own.get((history.batch, file.clip_id), rules.caption))
            for file, clip, n_frames in found
        ],
        files_to_probe=sum(probed_by[file.path] != probe for file in files),
        files_to_split=len(unsplit),
    )


@cache
def _strides(n_frames: int, fps: float, duration_s: float, length_s: float, min_length_s: float) -> Sequence[Part]:
    """Return how a stride splits a file with evenly spaced frames. Many files have the same length."""
    times = [frame / fps for frame in range(n_frames)]
    return stride_parts(times, duration_s, length_s=length_s, min_length_s=min_length_s)


_plan_windows = cache(plan_windows)


def window_ids(clip: PlannedClip, rules: PlanRules) -> Iterator[str]:
    """Yield the ids of the windows that a clip has, or would have."""
    rule = rules.settings.window
    for frames in _plan_windows(clip.n_frames, rule.window_size, rule.remainder_threshold):
        yield ids.window_id(clip.clip_id, frames.start, frames.end, rules.window)


def count_work(clips: Iterable[PlannedClip], done: Done, rules: PlanRules) -> Counter[str]:
    """Count what is left to do for the windows of clips, by the names in `COUNTS`."""
    counts = Counter[str]()
    for clip in clips:
        n_good, to_enhance = done.n_good[clip.recipe_id], done.to_enhance[clip.recipe_id]
        for window in window_ids(clip, rules):
            if window in done.damaged:
                continue
            counts["windows"] += 1
            counts["previews"] += window not in done.previewed
            good, is_alike = n_good.get(window, 0), window in done.alike
            if is_alike and not good:
                counts["collapsed"] += 1
                continue
            missing = 0 if is_alike else rules.caption_rule.n - good
            counts["captions"] += missing
            if missing or window not in to_enhance:
                counts["decisions"] += 1
                counts["enhancements"] += rules.most_kept
            else:
                counts["enhancements"] += to_enhance[window]
    if not rules.settings.enhance.enabled:
        counts["enhancements"] = 0
    return counts


# What is read.


def _read_done(session: Session, rules: PlanRules, batch: str | None) -> Done:
    """Read what there is of all windows, or of those in the temporary table `window_id` where a batch is given."""
    settings, these = rules.settings, "true" if batch is None else "window_id IN (SELECT window_id FROM window_id)"
    recipes = sorted({rules.caption, *rules.own.values()})
    session.put("asked", [("recipe_id", "VARCHAR"), ("number", "INTEGER")], [(r, n) for n, r in enumerate(recipes)])
    of_window = "windows WHERE recipe_id = $window"
    counts = dict(session.rows(f"SELECT clip_id, count(*) FROM {of_window} GROUP BY clip_id", window=rules.window))
    sets = session.select(WindowSetRow, "window_sets WHERE recipe_id = $window", window=rules.window)
    damaged = session.rows(f"SELECT window_id FROM {of_window} AND status = 'error' AND {these}", window=rules.window)
    return Done(
        n_good=_read_candidates(session, rules, these, recipes),
        to_enhance=_read_decisions(session, rules, these, recipes),
        alike={found.window_id for found in find_in(read_pictures(session, settings, batch), settings)},
        damaged={name for (name,) in damaged},
        previewed=_read_previews(session, preview_recipe(settings).recipe_id, these),
        cut={row.clip_id for row in sets if captions.is_complete(row, counts.get(row.clip_id, 0))},
    )


def _read_candidates(
    session: Session, rules: PlanRules, these: str, recipes: Sequence[str]
) -> dict[str, dict[str, int]]:
    """Return how many candidates count, by caption recipe and window."""

    @cache  # a million windows are alike in a few ways
    def n_good(made: str) -> int:
        return rules.caption_rule.n - rules.caption_rule.n_missing(candidates_in(made))

    found: dict[str, dict[str, int]] = {recipe: {} for recipe in recipes}
    for window, number, made in session.rows(f"""
        SELECT window_id, number, {MADE}
        FROM (SELECT * FROM caption_candidates WHERE {these}) made JOIN asked ON asked.recipe_id = made.recipe_id
        GROUP BY window_id, number"""):
        found[recipes[number]][window] = n_good(made)
    return found


def _read_decisions(
    session: Session, rules: PlanRules, these: str, recipes: Sequence[str]
) -> dict[str, dict[str, int]]:
    """Return how many of the captions that the newest decision keeps are not enhanced, by caption recipe and window."""
    policy = retention_recipe(rules.settings).recipe_id
    verdicts = f"""(SELECT * FROM retention_decisions WHERE policy_recipe_id = $policy AND {these}) d
        JOIN asked ON asked.recipe_id = d.recipe_id"""
    newest = {
        (window, number): decided_at
        for window, number, decided_at in session.rows(
            f"SELECT window_id, number, max(created_at) FROM {verdicts} GROUP BY window_id, number", policy=policy
        )
    }
    found: dict[str, dict[str, int]] = {recipe: {} for recipe in recipes}
    for window, number in newest:
        found[recipes[number]][window] = 0
    if rules.settings.enhance.enabled:
        for window, number, decided_at, n in session.rows(
            f"""
            SELECT d.window_id, number, d.created_at, count(*)
            FROM {verdicts} JOIN caption_candidates k ON k.candidate_id = d.candidate_id
            WHERE d.action = 'keep' AND k.status = 'ok' AND d.candidate_id NOT IN (
              SELECT candidate_id FROM enhanced_captions WHERE recipe_id = $enhance AND status <> 'error')
            GROUP BY d.window_id, number, d.created_at""",
            policy=policy,
            enhance=rules.enhance,
        ):
            if newest[window, number] == decided_at:
                found[recipes[number]][window] = n
    return found


def _read_previews(session: Session, recipe: str, these: str) -> set[str]:
    """Return the windows of which a preview by this recipe lies in some folder."""
    shown = f"previews WHERE recipe_id = $recipe AND status = 'ok' AND uri IS NOT NULL AND {these}"
    windows = {name for (name,) in session.rows(f"SELECT window_id FROM {shown}", recipe=recipe)}
    # Where other rows name a file too, the newest of a folder says what lies there.
    others = "SELECT window_id FROM previews WHERE uri IS NOT NULL AND (recipe_id <> $recipe OR status <> 'ok')"
    contested = f"previews WHERE window_id IN (SELECT window_id FROM {shown}) AND window_id IN ({others})"
    by_window = group(session.select(PreviewRow, contested, recipe=recipe), lambda row: row.window_id)
    for name, rows in by_window.items():
        if not any(row.recipe_id == recipe and row.status == "ok" for row in captions.previews_by_folder(rows)):
            windows.discard(name)
    return windows
