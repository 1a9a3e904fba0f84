"""vl_captions: candidate captions of each window, and the decision over all of them."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import dagster as dg

from caption_assets.assets.windows import windows
from caption_assets.captioning.plan import first_stage_tasks, original_row, second_stage_tasks
from caption_assets.captioning.stream import caption_stream
from caption_assets.captioning.tasks import Ask
from caption_assets.ids import WindowId
from caption_assets.orchestration.collapsing import collapsed_windows
from caption_assets.orchestration.deciding import decide_batch
from caption_assets.orchestration.declare import video_batch_asset
from caption_assets.orchestration.frames import ensure_frames, frames_reader
from caption_assets.orchestration.pictures import bars, histogram, sample_table
from caption_assets.orchestration.resources import EngineResource, RootResource, SettingsResource
from caption_assets.orchestration.stage import StageRun, recipe_rows, stage
from caption_assets.recipes import Recipe, caption_recipe, original_recipe, retention_recipe
from caption_assets.retention import GATES
from caption_assets.settings import Settings


@video_batch_asset(kinds={"duckdb"}, table="caption_candidates", code_kind="caption", deps=[windows])
def vl_captions(
    context: dg.AssetExecutionContext, root: RootResource, settings: SettingsResource, engine: EngineResource
) -> None:
    """Candidate captions of each window by a vision-language model, every one of them kept, and which is retained.

    Only what is missing under the current recipe is made. A candidate that fails is a row with the reason, and the
    next run makes it again.
    """
    values = settings.values()
    for batch in context.partition_keys:
        with stage(context, root, "vl_captions", batch, "window") as run:
            recipe = caption_recipe(values, engine.identify(values.caption_spec))
            run.activate(recipe)
            run.activate(retention_recipe(values))
            missing_before = _missing(run)
            if values.keep_original_sample:
                _keep_originals(run)
            _caption(run, engine, values, recipe, stage_number=1)
            if values.generate_stage2_caption:
                _caption(run, engine, values, recipe, stage_number=2)
            made = run.ledger.named("batch_candidates", batch=batch, recipe=recipe.recipe_id)
            decide_batch(run.ledger, batch, made, values, run.run_id)
            _count(run, missing_before)
            context.log.info(f"{batch}: captions by {recipe.name}, engine {engine.entry.name}")
            run.metadata |= _pictures(run, recipe, made)


def _caption(run: StageRun, engine: EngineResource, settings: Settings, recipe: Recipe, stage_number: int) -> None:
    work = run.ledger.named("caption_work", batch=run.batch, recipe=recipe.recipe_id)
    made = run.ledger.named("batch_candidates", batch=run.batch, recipe=recipe.recipe_id)
    wanted = [WindowId(str(row["window_id"])) for row in work]
    if stage_number == 1:
        tasks = first_stage_tasks(wanted, made, recipe.recipe_id, settings.caption_num)
    else:
        tasks = second_stage_tasks(wanted, made, recipe.recipe_id)
    if not tasks:
        return
    needed = {task.window_id for task in tasks}
    there, lost = ensure_frames(
        run.root, run.ledger, run.batch, [row for row in work if row["window_id"] in needed], settings
    )
    rows = caption_stream(
        engine.load(settings.caption_spec),
        tasks,
        _ask(settings, recipe),
        frames_reader(there, lost),
        run.run_id,
    )
    total = sum(len(task.slots) for task in tasks)
    run.commit_as_they_come(({"caption_candidates": [row]} for row in rows), total)


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


def _count(run: StageRun, missing_before: set[object]) -> None:
    """Set the counts of the stage: windows that had their captions, that have them now, and that have not.

    Windows that show another one's captions do not count.
    """
    there = {row["window_id"] for row in run.ledger.named("batch_windows", batch=run.batch) if row["status"] == "ok"}
    collapsed = {row["window_id"] for row in collapsed_windows(run.ledger, run.batch)}
    there -= collapsed
    missing = _missing(run)
    run.expected = len(there)
    run.failed = len(missing)
    run.new = len((there & missing_before) - missing)
    run.reused = run.expected - run.new - run.failed


def _missing(run: StageRun) -> set[object]:
    """Return the windows without all their captions under the current recipe."""
    rows = run.ledger.query("SELECT window_id FROM missing_captions WHERE batch = $batch", batch=run.batch)
    return {row["window_id"] for row in rows}


def _pictures(run: StageRun, recipe: Recipe, made: Sequence[Mapping[str, object]]) -> dict[str, dg.MetadataValue | str]:
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
    # One number each, since the UI then plots it over the batches.
    metadata |= {f"gate {name}": dg.MetadataValue.int(count) for name, count in counts.items()}
    if any(counts.values()):
        metadata["candidates by gate"] = bars(counts)
    failed = [row for row in made if row["status"] == "error"]
    if failed:
        metadata["failed candidates"] = sample_table(
            failed, ("path", "window_index", "sample_index", "attempt", "error")
        )
    return metadata
