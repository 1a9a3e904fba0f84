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
from caption_assets.ids import CandidateId
from caption_assets.ledger.captions import best_attempt, group, newest_check
from caption_assets.ledger.schema import DriftCheckRow
from caption_assets.orchestration.declare import video_batch_asset
from caption_assets.orchestration.metadata import sample_table
from caption_assets.orchestration.resources import EngineResource, RootResource, SettingsResource
from caption_assets.orchestration.stage import stage
from caption_assets.pipeline.drift_checks import drift_rows
from caption_assets.pipeline.engine_run import ask_engine
from caption_assets.pipeline.enhance_work import EnhanceWork, read_enhance_work
from caption_assets.pipeline.frames import frames_when_asked, read_frame_sources
from caption_assets.pipeline.stage_run import StageRun
from caption_assets.settings import Settings
from caption_assets.settings.recipes import Recipe, drift_recipe, enhance_recipe, on_drift_recipe

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
    rewritten; the counts of the materialization say which and why.
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
        work = {run: run.ledger.read(read_enhance_work, run.batch, recipe.recipe_id) for run in runs}
        asked = _enhance(work, engine, values, recipe)
        rule = drift_recipe(values)
        for run in runs:
            if asked[run.batch]:
                work[run] = run.ledger.read(read_enhance_work, run.batch, recipe.recipe_id)
            failed = {task.candidate_id for task in work[run].missing(recipe.recipe_id)}
            run.expected, run.failed = len(work[run].sources), len(failed)
            run.new = len(asked[run.batch] - failed)
            run.reused = run.expected - run.new - run.failed
            run.activate(rule, on_drift_recipe(values))
            checks = _check_drift(run, work[run], values, sees_frames=engine.loaded.entry.text_from_frames)
            run.metadata |= {"recipe": recipe.recipe_id, "model": recipe.name, "on drift": values.enhance.on_drift}
            _show(run, work[run], checks)


def _enhance(
    work: Mapping[StageRun, EnhanceWork], engine: EngineResource, settings: Settings, recipe: Recipe
) -> dict[str, set[CandidateId]]:
    """Enhance what all batches lack, through one queue; return the captions that were asked for, per batch."""
    planned: set[CandidateId] = set()
    jobs, totals = [], {}
    for run, of_batch in work.items():
        tasks = [task for task in of_batch.missing(recipe.recipe_id) if task.candidate_id not in planned]
        planned |= {task.candidate_id for task in tasks}
        jobs.append(EnhanceJob(run.batch, tasks, _frames(run, engine, settings, tasks, of_batch)))
        if tasks:
            totals[run] = len(tasks)
    ask_engine(
        engine.loaded,
        EngineSpec.for_enhancement(settings),
        totals,
        lambda dispatcher: enhance_stream(
            dispatcher,
            jobs,
            enhance=settings.enhance,
            sampling=settings.caption.sampling_params,
            run_id=next(iter(totals)).run_id,
            clock=lambda: datetime.now(UTC),
        ),
    )
    return {job.batch: {task.candidate_id for task in job.tasks} for job in jobs}


def _frames(
    run: StageRun, engine: EngineResource, settings: Settings, tasks: Sequence[EnhanceTask], work: EnhanceWork
) -> FramesOf | None:
    """Return where frames come from, for an engine that has no language model."""
    if not engine.loaded.entry.text_from_frames:
        return None
    wanted = {task.window_id for task in tasks}
    rows = [row for row in work.rows if row.window_id in wanted]
    sources = run.ledger.read(read_frame_sources, run.batch, rows) if rows else []
    return frames_when_asked(run.root, run.batch, sources, settings)


def _check_drift(
    run: StageRun, work: EnhanceWork, settings: Settings, *, sees_frames: bool
) -> dict[str, DriftCheckRow]:
    """Check what has not been checked under the current limits; return the check that counts, by enhancement."""
    recipe = drift_recipe(settings).recipe_id
    new = list(
        drift_rows(
            work.drift_work,
            {check.check_id for check in work.checks},
            recipe,
            settings.enhance,
            sees_frames=sees_frames,
            run_id=run.run_id,
            now=datetime.now(UTC),
        )
    )
    run.commit(new)
    of_recipe = [check for check in [*work.checks, *new] if check.recipe_id == recipe]
    by_text = group(of_recipe, lambda check: check.enhanced_id)
    return {name: check for name, some in by_text.items() if (check := newest_check(some)) is not None}


def _show(run: StageRun, work: EnhanceWork, checks: Mapping[str, DriftCheckRow]) -> None:
    """Show the enhancements of the kept captions, what drifted, and what is not enhanced. checks: by enhancement."""
    enhanced: list[dict[str, object]] = []
    drifted: list[dict[str, object]] = []
    skipped: list[dict[str, object]] = []
    counts: Counter[str] = Counter()
    for kept in work.kept:
        place: dict[str, object] = {"clip_path": kept.row.clip_path, "window_index": kept.row.window_index}
        if kept.candidate is None or kept.skip_reason is not None:
            candidate_id = kept.candidate.candidate_id if kept.candidate else None
            skipped.append({**place, "reason_code": kept.skip_reason, "candidate_id": candidate_id})
        elif (text := best_attempt(work.enhanced.get(kept.candidate.candidate_id, ()))) is not None:
            texts = {**place, "caption": kept.candidate.text, "enhanced": text.text}
            enhanced.append({**texts, "status": text.status, "error": text.error})
            if (check := checks.get(text.enhanced_id)) is not None:
                counts[check.status] += 1
                if check.status == "drifted":
                    drifted.append({**texts, "reason": check.reason, "evidence": check.evidence})
    run.metadata |= {f"drift {status}": counts[status] for status in ("ok", "unchanged", "drifted")}
    columns = ("clip_path", "window_index", "caption", "enhanced", "status", "error")
    run.metadata["enhanced"] = sample_table(enhanced, columns)
    if drifted:
        run.log.info(f"{run.batch}: {len(drifted)} of {counts.total()} drifted; on_drift is {run.metadata['on drift']}")
        run.metadata["drifted"] = sample_table(drifted, (*columns[:4], "reason", "evidence"))
    run.metadata["skipped"] = len(skipped)
    if skipped:
        reasons = Counter(str(row["reason_code"]) for row in skipped)
        said = ", ".join(f"{reason} {count}" for reason, count in sorted(reasons.items()))
        run.log.info(f"{run.batch}: {len(skipped)} not enhanced: {said}")
        shown = sample_table(skipped, ("clip_path", "window_index", "reason_code", "candidate_id"))
        run.metadata |= {"skipped by reason": said, "not enhanced": shown}
