"""vl_captions: candidate captions of each window, and the decision over all of them."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import dagster as dg

from caption_assets.assets.windows import windows
from caption_assets.captioning.plan import first_stage_tasks, original_row, second_stage_tasks
from caption_assets.captioning.stream import Asks, Job, caption_stream
from caption_assets.captioning.tasks import Task
from caption_assets.engines.protocol import EngineIdentity, EngineSpec
from caption_assets.ids import RecipeId, TaskId, WindowId
from caption_assets.ledger.schema import CandidateRow, CaptionRow
from caption_assets.ledger.store import LedgerError
from caption_assets.ledger.upkeep import batch_rows
from caption_assets.orchestration.declare import video_batch_asset
from caption_assets.orchestration.metadata import sample_table, spread
from caption_assets.orchestration.resources import EngineResource, RootResource, SettingsResource
from caption_assets.orchestration.stage import stage
from caption_assets.pipeline.caption_work import WINDOWS_OF_BATCH, CaptionWork, read_caption_work
from caption_assets.pipeline.clip_prompts import (
    activate_for_clips,
    check_prompt_key,
    prompts_of_clips,
    recipes_of_clips,
)
from caption_assets.pipeline.engine_run import ask_engine
from caption_assets.pipeline.frames import frames_when_asked, read_frame_sources
from caption_assets.pipeline.judge import judge_batch
from caption_assets.pipeline.retain import decide_batch
from caption_assets.pipeline.stage_run import StageRun, recipe_rows
from caption_assets.retention import GATES
from caption_assets.settings import Settings
from caption_assets.settings.recipes import Recipe, caption_recipe, original_recipe, retention_recipe


@video_batch_asset(kinds={"duckdb"}, table="caption_candidates", code_kind="caption", deps=[windows], uses_engine=True)
def vl_captions(
    context: dg.AssetExecutionContext, root: RootResource, settings: SettingsResource, engine: EngineResource
) -> None:
    """Candidate captions of each window by a vision-language model, every one of them kept, and which is retained.

    Only what is missing under the current recipe is made. A candidate that fails is a row with the reason, and the
    next run makes it again.
    """
    values = settings.values()
    identity = engine.loaded.identify(EngineSpec.for_captions(values))
    recipe = caption_recipe(values, identity)
    with ExitStack() as stages:
        runs = [
            stages.enter_context(stage(context, root, "vl_captions", batch, "window"))
            for batch in context.partition_keys
        ]
        # For all batches before any of them is asked about: a key that one of them lacks costs no model call.
        own = {run.batch: _own_recipes(run, values, identity, recipe) for run in runs}
        for run in runs:
            _prepare(run, values, recipe, own[run.batch])
        work = {run: run.ledger.read(read_caption_work, run.batch) for run in runs}
        if values.retention.keep_original_sample:
            for run in runs:
                _keep_originals(run, work[run])
        recipes = [recipe, *(each for some in own.values() for each in some.values())]
        asked = _caption(work, engine, values, recipes)
        for run in runs:
            if asked[run.batch]:
                work[run] = run.ledger.read(read_caption_work, run.batch)
            made = work[run]
            judge_batch(run, engine.loaded, values, made)
            n_decided = decide_batch(run.ledger, run.batch, made.current_candidates, values, run.run_id)
            _count(run, made, asked[run.batch])
            context.log.info(f"{run.batch}: captions by {recipe.name}, engine {engine.loaded.entry.name}")
            rows = run.ledger.read(batch_rows, run.batch) if n_decided else made.rows
            run.metadata |= _pictures(run, recipe, made, rows)


def _own_recipes(run: StageRun, settings: Settings, identity: EngineIdentity, recipe: Recipe) -> dict[str, Recipe]:
    """Return the recipe of each clip that has a prompt of its own, and say how many have."""
    prompts = prompts_of_clips(run.ledger, settings, run.batch).get(run.batch)
    check_prompt_key(run.ledger, settings, run.batch, prompts)
    if prompts is None:
        return {}
    n_own, n_others = len(prompts.own), prompts.n_others
    run.metadata |= {"clips with a prompt of their own": n_own, "clips with the prompt of the settings": n_others}
    run.log.info(
        f"{run.batch}: {n_own} clips have their prompt from {settings.caption.prompt_key!r}, {n_others} from settings"
    )
    if prompts.n_ambiguous:
        run.log.warning(
            f"{run.batch}: {prompts.n_ambiguous} clips lie in it twice with other prompts; the first counts"
        )
    return recipes_of_clips(settings, identity, prompts, recipe)


def _prepare(run: StageRun, settings: Settings, recipe: Recipe, own: Mapping[str, Recipe]) -> None:
    """Make the recipes current."""
    run.activate(recipe, retention_recipe(settings))
    activate_for_clips(run.ledger, run.batch, own, settings.caption.prompt_key, run.run_id)


def _caption(
    work: Mapping[StageRun, CaptionWork], engine: EngineResource, settings: Settings, recipes: Sequence[Recipe]
) -> dict[str, set[WindowId]]:
    """Caption what all batches lack, through one queue; return the windows that were asked for, per batch.

    recipes: those that this run has made current.
    """
    caption = settings.caption
    asks = {recipe.recipe_id: caption.asking(recipe.prompts[0].text) for recipe in recipes}
    planned: set[TaskId] = set()
    jobs, totals = [], {}
    for run, of_batch in work.items():
        tasks = _tasks(of_batch, settings, asks, planned)
        needed = {task.window_id for task in tasks}
        rows = [row for row in of_batch.rows if row.window_id in needed]
        sources = run.ledger.read(read_frame_sources, run.batch, rows) if rows else []
        jobs.append(Job(run.batch, tasks, frames_when_asked(run.root, run.batch, sources, settings)))
        if tasks:
            totals[run] = _n_candidates(tasks, settings)
    ask_engine(
        engine.loaded,
        EngineSpec.for_captions(settings),
        totals,
        lambda dispatcher: caption_stream(
            dispatcher, jobs, asks, next(iter(work)).run_id, two_stages=caption.generate_stage2_caption
        ),
    )
    return {job.batch: {task.window_id for task in job.tasks} for job in jobs}


def _tasks(work: CaptionWork, settings: Settings, asks: Asks, planned: set[TaskId]) -> list[Task]:
    """Return the tasks of a batch.

    asks: by recipe. planned: tasks of other batches of this run, which may have the same clip; those of this one are
    added.

    Raises:
        LedgerError: another recipe is current.
    """
    missing = {WindowId(row.window_id): RecipeId(row.wanted_recipe_id or "") for row in work.missing}
    if strange := sorted(set(missing.values()) - asks.keys()):
        raise LedgerError(
            f"{work.batch}: the ledger says that the caption recipe {strange[0]} is current, which this run did not "
            "choose: another process has chosen it meanwhile. Run the batch again"
        )
    made = [candidate for _, candidates in work.current_candidates for candidate in candidates]
    tasks = first_stage_tasks(missing, made, settings.caption.caption_num)
    if settings.caption.generate_stage2_caption:
        tasks += second_stage_tasks(missing, made)
    tasks = [task for task in tasks if task.task_id not in planned]
    planned |= {task.task_id for task in tasks}
    return tasks


def _n_candidates(tasks: Sequence[Task], settings: Settings) -> int:
    """Return how many candidates tasks make at most: a first stage may be refined."""
    stages = 2 if settings.caption.generate_stage2_caption else 1
    return sum(len(task.slots) * (stages if task.stage == 1 else 1) for task in tasks)


def _keep_originals(run: StageRun, work: CaptionWork) -> None:
    """Enter the captions that came with the videos as candidates, once each."""
    recipe = original_recipe()
    wanted = [row for row in work.rows if row.original_caption is not None and row.status != "window_error"]
    if not wanted:
        return
    source = f"caption_candidates WHERE recipe_id = $recipe AND window_id IN ({WINDOWS_OF_BATCH})"
    made = run.ledger.select(CandidateRow, source, recipe=recipe.recipe_id, batch=run.batch)
    known, now = {(row.window_id, row.text) for row in made}, datetime.now(UTC)
    rows = [
        original_row(WindowId(row.window_id), row.original_caption or "", recipe.recipe_id, run.run_id, now)
        for row in wanted
        if (row.window_id, row.original_caption) not in known
    ]
    if rows:
        run.commit([*recipe_rows(recipe, run.run_id), *rows])


def _count(run: StageRun, work: CaptionWork, asked: set[WindowId]) -> None:
    """Set the counts of the stage: windows that had their captions, that have them now, and that have not.

    Windows that show another one's captions do not count, and one that two batches share is new in the first.
    """
    own = {row.window_id for row in work.rows if row.status != "window_error" and row.duplicate_of is None}
    missing = {row.window_id for row in work.missing}
    run.expected = len(own)
    run.failed = len(missing)
    run.new = len((own & asked) - missing)
    run.reused = run.expected - run.new - run.failed


@dataclass(frozen=True, slots=True)
class ReasonCount:
    """How many verdicts have a reason."""

    reason_code: str
    n: int


def _gate_counts(run: StageRun) -> dict[str, int]:
    """Return how many candidates each gate dropped or put behind, in the decisions that the batch shows."""
    source = """(
        SELECT d.reason_code, count(*) AS n FROM retention_decisions d
        JOIN captions c ON c.decision_id = d.decision_id AND c.window_id = d.window_id
        WHERE c.batch = $batch GROUP BY d.reason_code) reasons"""
    counts = {each.reason_code: each.n for each in run.ledger.select(ReasonCount, source, batch=run.batch)}
    return {gate.name: counts.get(str(gate.reason), 0) for gate in GATES}


def _pictures(
    run: StageRun, recipe: Recipe, work: CaptionWork, rows: Sequence[CaptionRow]
) -> dict[str, dg.MetadataValue | str | float]:
    made = [(row, candidate) for row, candidates in work.current_candidates for candidate in candidates]
    metadata: dict[str, dg.MetadataValue | str | float] = {
        "captions": sample_table([asdict(row) for row in rows], ("clip_path", "caption", "reason_code")),
        **spread("words per candidate", [len(each.text.split()) for _, each in made if each.text]),
        "recipe": recipe.recipe_id,
        "model": recipe.name,
        # Also those that dropped nothing, so that Dagster's plots over the batches have no holes.
        **{f"gate {name}": count for name, count in _gate_counts(run).items()},
    }
    failed = [
        {**asdict(candidate), "clip_path": row.clip_path, "window_index": row.window_index}
        for row, candidate in made
        if candidate.status == "error"
    ]
    if failed:
        metadata["failed candidates"] = sample_table(
            failed, ("clip_path", "window_index", "sample_index", "attempt", "error")
        )
    return metadata
