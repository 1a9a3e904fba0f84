"""vl_captions: candidate captions of each window, and the decision over all of them."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime

import dagster as dg

from caption_assets.assets.windows import windows
from caption_assets.captioning.plan import first_stage_tasks, original_row, second_stage_tasks
from caption_assets.captioning.stream import Job, caption_stream
from caption_assets.captioning.tasks import Ask
from caption_assets.ids import TaskId, WindowId
from caption_assets.orchestration.asking import ask_engine
from caption_assets.orchestration.collapsing import collapsed_windows
from caption_assets.orchestration.deciding import decide_batch
from caption_assets.orchestration.declare import video_batch_asset
from caption_assets.orchestration.frames import frames_when_asked
from caption_assets.orchestration.gate_history import gate_numbers, gates_over_batches
from caption_assets.orchestration.judging import judge_batch
from caption_assets.orchestration.pictures import bars, histogram, sample_table
from caption_assets.orchestration.resources import EngineResource, RootResource, SettingsResource
from caption_assets.orchestration.stage import StageRun, recipe_rows, stage
from caption_assets.recipes import Recipe, caption_recipe, original_recipe, retention_recipe
from caption_assets.retention import GATES
from caption_assets.settings import Settings

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
    recipe = caption_recipe(values, engine.identify(values.caption_spec))
    with ExitStack() as stages:
        runs = [
            stages.enter_context(stage(context, root, "vl_captions", batch, "window"))
            for batch in context.partition_keys
        ]
        for run in runs:
            _prepare(run, values, recipe)
        asked = _caption(runs, engine, values, recipe)
        for run in runs:
            made = run.ledger.named("batch_candidates", batch=run.batch, recipe=recipe.recipe_id)
            judge_batch(run, engine, values, made)
            decide_batch(run.ledger, run.batch, made, values, run.run_id)
            _count(run, asked[run.batch])
            context.log.info(f"{run.batch}: captions by {recipe.name}, engine {engine.entry.name}")
            run.metadata |= _pictures(run, context.instance, recipe, made)


def _prepare(run: StageRun, settings: Settings, recipe: Recipe) -> None:
    """Make the recipes current and enter captions that came with the videos."""
    run.activate(recipe, retention_recipe(settings))
    if settings.keep_original_sample:
        _keep_originals(run)


def _caption(
    runs: Sequence[StageRun], engine: EngineResource, settings: Settings, recipe: Recipe
) -> dict[str, set[object]]:
    """Caption what all batches lack, through one queue; return the windows that were asked for, per batch."""
    planned: set[TaskId] = set()
    jobs, totals = [], {}
    for run in runs:
        job, total = _job(run, settings, recipe, planned)
        jobs.append(job)
        if total:
            totals[run] = total
    asked: dict[str, set[object]] = {job.batch: {task.window_id for task in job.tasks} for job in jobs}
    ask_engine(
        engine,
        settings.caption_spec,
        totals,
        "caption_candidates",
        lambda stream: caption_stream(
            stream, jobs, _ask(settings, recipe), runs[0].run_id, two_stages=settings.generate_stage2_caption
        ),
    )
    return asked


def _job(run: StageRun, settings: Settings, recipe: Recipe, planned: set[TaskId]) -> tuple[Job, int]:
    """Return the tasks of a batch and how many candidates they make at most.

    planned: tasks of other batches of this run, which may have the same clip; those of this one are added.
    """
    work = run.ledger.named("caption_work", batch=run.batch, recipe=recipe.recipe_id)
    made = run.ledger.named("batch_candidates", batch=run.batch, recipe=recipe.recipe_id)
    wanted = [WindowId(str(row["window_id"])) for row in work]
    first = first_stage_tasks(wanted, made, recipe.recipe_id, settings.caption_num)
    second = second_stage_tasks(wanted, made, recipe.recipe_id) if settings.generate_stage2_caption else []
    tasks = [task for task in (*first, *second) if task.task_id not in planned]
    planned |= {task.task_id for task in tasks}
    needed = {task.window_id for task in tasks}
    rows = [row for row in work if row["window_id"] in needed]
    stages = 2 if settings.generate_stage2_caption else 1
    total = sum(len(task.slots) * (stages if task.stage == 1 else 1) for task in tasks)
    return Job(run.batch, tasks, frames_when_asked(run.root, run.ledger, run.batch, rows, settings)), total


def _ask(settings: Settings, recipe: Recipe) -> Ask:
    return Ask(
        prompt=recipe.prompts[0].text,
        system_prompt=settings.system_prompt,
        sampling=settings.sampling_params,
        max_tokens=settings.max_output_tokens,
        stage2_prompt=settings.stage2_prompt_text,
    )


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
