"""enhanced_captions: each kept caption rewritten by a text model."""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime

import dagster as dg

from caption_assets.assets.vl_captions import vl_captions
from caption_assets.captioning.enhancing import EnhanceJob, EnhanceTask, enhance_stream
from caption_assets.captioning.stream import FramesOf
from caption_assets.engines.protocol import EngineSpec
from caption_assets.ids import CandidateId, WindowId
from caption_assets.orchestration.declare import video_batch_asset
from caption_assets.orchestration.metadata import sample_table
from caption_assets.orchestration.resources import EngineResource, RootResource, SettingsResource
from caption_assets.orchestration.stage import stage
from caption_assets.pipeline.drift_checks import drift_rows
from caption_assets.pipeline.engine_run import ask_engine
from caption_assets.pipeline.frames import frames_when_asked
from caption_assets.pipeline.stage_run import StageRun
from caption_assets.settings import Settings
from caption_assets.settings.recipes import Recipe, drift_recipe, enhance_recipe, on_drift_recipe

Row = Mapping[str, object]

NO_ENHANCEMENT = Recipe("enhance", "off", {"enabled": False})
"""Current for a batch while enhancement is off: nothing is made under it, so the table shows no enhanced caption."""


@video_batch_asset(
    kinds={"duckdb"}, table="enhanced_captions", code_kind="enhance", deps=[vl_captions], uses_engine=True
)
def enhanced_captions(
    context: dg.AssetExecutionContext, root: RootResource, settings: SettingsResource, engine: EngineResource
) -> None:
    """The captions that a batch shows, each rewritten by a text model, with the caption it was made from.

    Each is checked for drift: what it says that neither its source nor another candidate of the window bears out, and
    what it lost. `enhance.on_drift` says what is then shown; other limits check again and call no model.

    Off with `enhance.enabled = false`. A caption that failed before is tried again. Cut and refused captions are not
    rewritten; the counts and the view `enhancement_skips` say which.
    """
    values = settings.values()
    with ExitStack() as stages:
        runs = [
            stages.enter_context(stage(context, root, "enhanced_captions", batch, "caption"))
            for batch in context.partition_keys
        ]
        if not values.enhance.enabled:
            for run in runs:
                run.activate(NO_ENHANCEMENT)
                context.log.info(f"{run.batch}: enhancement is off")
            return
        recipe = enhance_recipe(values, engine.loaded.identify(EngineSpec.for_enhancement(values)))
        for run in runs:
            run.activate(recipe)
        to_rewrite = {run: _to_rewrite(run) for run in runs}
        asked = _enhance(to_rewrite, engine, values, recipe)
        for run, kept in to_rewrite.items():
            failed = {task.candidate_id for task in _missing(run, recipe, kept)}
            run.expected, run.failed = len(kept), len(failed)
            run.new = len(asked[run.batch] - failed)
            run.reused = run.expected - run.new - run.failed
            run.metadata |= _pictures(run, recipe, kept)
            run.metadata |= _check_drift(run, recipe, kept, values, sees_frames=engine.loaded.entry.text_from_frames)
            run.metadata |= _skips(run)


def _to_rewrite(run: StageRun) -> list[Row]:
    """Return the kept captions of a batch that are to be enhanced: those of duplicates are rewritten once."""
    return [
        row
        for row in run.ledger.named("batch_kept", batch=run.batch)
        if row["skip_reason"] is None and row["duplicate_of"] is None
    ]


def _missing(run: StageRun, recipe: Recipe, kept: Sequence[Row]) -> list[EnhanceTask]:
    """Return a task for each kept caption that has no enhancement under `recipe`, or only failed ones."""
    made: dict[object, list[Row]] = {}
    for row in run.ledger.named("batch_enhanced", batch=run.batch, recipe=recipe.recipe_id):
        made.setdefault(row["candidate_id"], []).append(row)
    return [
        EnhanceTask(
            candidate_id=CandidateId(str(row["candidate_id"])),
            window_id=WindowId(str(row["window_id"])),
            recipe_id=recipe.recipe_id,
            caption=str(row["text"]),
            attempt=1 + len(made.get(row["candidate_id"], [])),
        )
        for row in kept
        if all(previous["status"] == "error" for previous in made.get(row["candidate_id"], []))
    ]


def _enhance(
    kept: Mapping[StageRun, Sequence[Row]], engine: EngineResource, settings: Settings, recipe: Recipe
) -> dict[str, set[CandidateId]]:
    """Enhance what all batches lack, through one queue; return the captions that were asked for, per batch."""
    planned: set[CandidateId] = set()
    jobs, totals = [], {}
    for run, rows in kept.items():
        tasks = [task for task in _missing(run, recipe, rows) if task.candidate_id not in planned]
        planned |= {task.candidate_id for task in tasks}
        jobs.append(EnhanceJob(run.batch, tasks, _frames(run, engine, settings, tasks, rows)))
        if tasks:
            totals[run] = len(tasks)
    ask_engine(
        engine.loaded,
        EngineSpec.for_enhancement(settings),
        totals,
        "enhanced_captions",
        lambda stream: enhance_stream(
            stream,
            jobs,
            enhance=settings.enhance,
            sampling=settings.caption.sampling_params,
            run_id=next(iter(totals)).run_id,
            clock=lambda: datetime.now(UTC),
        ),
    )
    return {job.batch: {task.candidate_id for task in job.tasks} for job in jobs}


def _frames(
    run: StageRun, engine: EngineResource, settings: Settings, tasks: Sequence[EnhanceTask], kept: Sequence[Row]
) -> FramesOf | None:
    """Return where frames come from, for an engine that has no language model."""
    if not engine.loaded.entry.text_from_frames:
        return None
    wanted = {task.window_id for task in tasks}
    rows = [row for row in kept if row["window_id"] in wanted]
    return frames_when_asked(run.root, run.ledger, run.batch, rows, settings)


def _pictures(run: StageRun, recipe: Recipe, kept: Sequence[Row]) -> dict[str, dg.MetadataValue | str]:
    texts = {
        row["candidate_id"]: row for row in run.ledger.named("batch_enhanced", batch=run.batch, recipe=recipe.recipe_id)
    }
    shown = [
        {**row, "caption": row["text"], "enhanced": made["text"], "status": made["status"], "error": made["error"]}
        for row in kept
        if (made := texts.get(row["candidate_id"])) is not None
    ]
    columns = ("path", "window_index", "caption", "enhanced", "status", "error")
    return {"enhanced": sample_table(shown, columns), "recipe": recipe.recipe_id, "model": recipe.name}


def _check_drift(
    run: StageRun, recipe: Recipe, kept: Sequence[Row], settings: Settings, *, sees_frames: bool
) -> dict[str, dg.MetadataValue | str | int]:
    """Check what has not been checked under the current limits, and return what the UI shows of the checks."""
    rule = drift_recipe(settings)
    run.activate(rule, on_drift_recipe(settings))
    names = {"batch": run.batch, "enhance": recipe.recipe_id}
    known = {str(row["check_id"]) for row in run.ledger.named("batch_drift", **names, drift=rule.recipe_id)}
    rows = drift_rows(
        run.ledger.named("batch_drift_work", **names),
        known,
        rule.recipe_id,
        settings.enhance,
        sees_frames=sees_frames,
        run_id=run.run_id,
        now=datetime.now(UTC),
    )
    run.commit({"drift_checks": list(rows)})
    checks = {row["candidate_id"]: row for row in run.ledger.named("batch_drift", **names, drift=rule.recipe_id)}
    shown = [{**row, **checks[row["candidate_id"]]} for row in kept if row["candidate_id"] in checks]
    counts = Counter(str(row["status"]) for row in shown)
    metadata: dict[str, dg.MetadataValue | str | int] = {
        f"drift {status}": counts[status] for status in ("ok", "unchanged", "drifted")
    }
    metadata["on drift"] = settings.enhance.on_drift
    drifted = [row for row in shown if row["status"] == "drifted"]
    if drifted:
        run.log.info(f"{run.batch}: {len(drifted)} of {len(shown)} drifted; on_drift is {settings.enhance.on_drift}")
        metadata["drifted"] = sample_table(
            _with_texts(run, recipe, drifted), ("path", "window_index", "caption", "enhanced", "reason", "evidence")
        )
    return metadata


def _with_texts(run: StageRun, recipe: Recipe, rows: Sequence[Row]) -> list[Row]:
    made = run.ledger.named("batch_enhanced", batch=run.batch, recipe=recipe.recipe_id)
    texts = {row["enhanced_id"]: row["text"] for row in made}
    return [{**row, "caption": row["text"], "enhanced": texts[row["enhanced_id"]]} for row in rows]


def _skips(run: StageRun) -> dict[str, dg.MetadataValue | str | int]:
    """Return how many captions, or windows without one, are not enhanced, for each reason, and which."""
    skips = run.ledger.named("batch_enhancement_skips", batch=run.batch)
    if not skips:
        return {"skipped": 0}
    counts = Counter(str(row["reason_code"]) for row in skips)
    said = ", ".join(f"{reason} {count}" for reason, count in sorted(counts.items()))
    run.log.info(f"{run.batch}: {len(skips)} not enhanced: {said}")
    columns = ("path", "window_index", "reason_code", "candidate_id")
    return {"skipped": len(skips), "skipped by reason": said, "not enhanced": sample_table(skips, columns)}
