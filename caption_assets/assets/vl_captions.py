"""vl_captions: candidate captions of each window, and the decision over all of them."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime

import dagster as dg

from caption_assets.assets.windows import windows
from caption_assets.captioning.plan import first_stage_tasks, original_row, second_stage_tasks
from caption_assets.captioning.stream import Asks, Job, caption_stream
from caption_assets.engines.protocol import EngineIdentity, EngineSpec
from caption_assets.ids import RecipeId, TaskId, WindowId
from caption_assets.ledger.database import LedgerError
from caption_assets.orchestration.declare import video_batch_asset
from caption_assets.orchestration.gate_history import gate_numbers, gates_over_batches
from caption_assets.orchestration.metadata import bars, histogram, sample_table
from caption_assets.orchestration.resources import EngineResource, RootResource, SettingsResource
from caption_assets.orchestration.stage import stage
from caption_assets.pipeline.clip_prompts import (
    activate_for_clips,
    check_prompt_key,
    prompts_of_clips,
    recipes_of_clips,
)
from caption_assets.pipeline.dedupe import collapsed_windows
from caption_assets.pipeline.engine_run import ask_engine
from caption_assets.pipeline.frames import frames_when_asked
from caption_assets.pipeline.judge import judge_batch
from caption_assets.pipeline.retain import decide_batch
from caption_assets.pipeline.stage_run import StageRun, recipe_rows
from caption_assets.retention import GATES
from caption_assets.settings import Settings
from caption_assets.settings.recipes import Recipe, caption_recipe, original_recipe, retention_recipe

KEY = dg.AssetKey("vl_captions")


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
        asked = _caption(runs, engine, values, [recipe, *(each for some in own.values() for each in some.values())])
        for run in runs:
            made = run.ledger.named("current_candidates", batch=run.batch)
            judge_batch(run, engine.loaded, values, made)
            decide_batch(run.ledger, run.batch, made, values, run.run_id)
            _count(run, asked[run.batch])
            context.log.info(f"{run.batch}: captions by {recipe.name}, engine {engine.loaded.entry.name}")
            run.metadata |= _pictures(run, context.instance, recipe, made)


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
    """Make the recipes current and enter captions that came with the videos."""
    run.activate(recipe, retention_recipe(settings))
    activate_for_clips(run.ledger, run.batch, own, settings.caption.prompt_key, run.run_id)
    if settings.retention.keep_original_sample:
        _keep_originals(run)


def _caption(
    runs: Sequence[StageRun], engine: EngineResource, settings: Settings, recipes: Sequence[Recipe]
) -> dict[str, set[object]]:
    """Caption what all batches lack, through one queue; return the windows that were asked for, per batch."""
    caption = settings.caption
    asks = {recipe.recipe_id: caption.asking(recipe.prompts[0].text) for recipe in recipes}
    planned: set[TaskId] = set()
    jobs, totals = [], {}
    for run in runs:
        job, total = _job(run, settings, asks, planned)
        jobs.append(job)
        if total:
            totals[run] = total
    asked: dict[str, set[object]] = {job.batch: {task.window_id for task in job.tasks} for job in jobs}
    ask_engine(
        engine.loaded,
        EngineSpec.for_captions(settings),
        totals,
        "caption_candidates",
        lambda stream: caption_stream(stream, jobs, asks, runs[0].run_id, two_stages=caption.generate_stage2_caption),
    )
    return asked


def _job(run: StageRun, settings: Settings, asks: Asks, planned: set[TaskId]) -> tuple[Job, int]:
    """Return the tasks of a batch and how many candidates they make at most.

    asks: the recipes that this run has made current. planned: tasks of other batches of this run, which may have the
    same clip; those of this one are added.

    Raises:
        LedgerError: another recipe is current.
    """
    work = run.ledger.named("caption_work", batch=run.batch)
    if strange := sorted({str(row["recipe_id"]) for row in work} - asks.keys()):
        raise LedgerError(
            f"{run.batch}: the ledger says that the caption recipe {strange[0]} is current, which this run did not "
            "choose: another process has chosen it meanwhile. Run the batch again"
        )
    made = run.ledger.named("current_candidates", batch=run.batch)
    wanted = {WindowId(str(row["window_id"])): RecipeId(str(row["recipe_id"])) for row in work}
    first = first_stage_tasks(wanted, made, settings.caption.caption_num)
    second = second_stage_tasks(wanted, made) if settings.caption.generate_stage2_caption else []
    tasks = [task for task in (*first, *second) if task.task_id not in planned]
    planned |= {task.task_id for task in tasks}
    needed = {task.window_id for task in tasks}
    rows = [row for row in work if row["window_id"] in needed]
    stages = 2 if settings.caption.generate_stage2_caption else 1
    total = sum(len(task.slots) * (stages if task.stage == 1 else 1) for task in tasks)
    return Job(run.batch, tasks, frames_when_asked(run.root, run.ledger, run.batch, rows, settings)), total


def _keep_originals(run: StageRun) -> None:
    """Enter the captions that came with the videos as candidates, once each."""
    recipe = original_recipe()
    known = {
        (row["window_id"], row["text"])
        for row in run.ledger.named("batch_candidates", batch=run.batch, recipe=recipe.recipe_id)
    }
    now = datetime.now(UTC)
    originals = run.ledger.named("batch_original_captions", batch=run.batch)
    rows = [
        original_row(WindowId(str(row["window_id"])), str(row["original_caption"]), recipe.recipe_id, run.run_id, now)
        for row in originals
        if (row["window_id"], row["original_caption"]) not in known
    ]
    if rows:
        recipes = recipe_rows(recipe, run.batch, "", run.run_id)["recipes"]
        run.commit({"recipes": recipes, "caption_candidates": rows})


def _count(run: StageRun, asked: set[object]) -> None:
    """Set the counts of the stage: windows that had their captions, that have them now, and that have not.

    Windows that show another one's captions do not count, and one that two batches share is new in the first.
    """
    there = {row["window_id"] for row in run.ledger.named("batch_windows", batch=run.batch) if row["status"] == "ok"}
    collapsed = {row["window_id"] for row in collapsed_windows(run.ledger, run.batch)}
    there -= collapsed
    missing = _missing(run)
    run.expected = len(there)
    run.failed = len(missing)
    run.new = len((there & asked) - missing)
    run.reused = run.expected - run.new - run.failed


def _missing(run: StageRun) -> set[object]:
    """Return the windows without all their captions under the current recipe."""
    rows = run.ledger.query("SELECT window_id FROM missing_captions WHERE batch = $batch", batch=run.batch)
    return {row["window_id"] for row in rows}


def _pictures(
    run: StageRun, instance: dg.DagsterInstance, recipe: Recipe, made: Sequence[Mapping[str, object]]
) -> dict[str, dg.MetadataValue | str]:
    kept = run.ledger.named("batch_kept", batch=run.batch)
    lengths = [float(len(str(row["text"]).split())) for row in made if row["text"]]
    metadata: dict[str, dg.MetadataValue | str] = {
        "captions": sample_table(kept, ("path", "text", "reason_code")),
        "words per candidate": histogram(lengths, "words"),
        "recipe": recipe.recipe_id,
        "model": recipe.name,
    }
    dropped = {str(row["reason_code"]): row["n"] for row in run.ledger.named("gate_counts", batch=run.batch)}
    counts = {gate.name: int(str(dropped.get(str(gate.reason), 0))) for gate in GATES}
    metadata |= gate_numbers(counts)
    metadata["gates over batches"] = gates_over_batches(instance, KEY, run.batch, counts)
    if any(counts.values()):
        metadata["candidates by gate"] = bars(counts)
    failed = [row for row in made if row["status"] == "error"]
    if failed:
        metadata["failed candidates"] = sample_table(
            failed, ("path", "window_index", "sample_index", "attempt", "error")
        )
    return metadata
