"""A judge over a batch: pairs of captions through the engine, answers into the ledger."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

from caption_assets.captioning.decisions import RetentionRule, Surroundings, valid_candidates
from caption_assets.captioning.judging import Pair, by_window, judge_request, judgement_row, missing_pairs
from caption_assets.captioning.stream import answer_each
from caption_assets.engines.loaded import LoadedEngines
from caption_assets.engines.protocol import EngineSpec, Request
from caption_assets.ids import WindowId
from caption_assets.pipeline.frames import frames_when_asked
from caption_assets.pipeline.stage_run import StageRun
from caption_assets.retention import parse_policy
from caption_assets.retention.policies import JUDGE
from caption_assets.settings import Settings
from caption_assets.settings.prompts import JUDGE_PROMPT
from caption_assets.settings.recipes import judge_recipe

Row = Mapping[str, object]


def judge_batch(run: StageRun, engine: LoadedEngines, settings: Settings, candidates: Sequence[Row]) -> None:
    """Have the captioning model compare what gates let through, where the policy asks for a judge.

    candidates: rows of `current_candidates.sql`. What was answered before is not asked again. An engine without a
    language model judges nothing, and the policy says so in its evidence.
    """
    if not any(policy.name == JUDGE for policy in parse_policy(settings.retention.keep_candidate_mode)):
        return
    if engine.entry.text_from_frames:
        run.log.warning(f"{run.batch}: the engine {engine.entry.name} cannot judge captions; nothing is compared")
        return
    recipe = judge_recipe(settings, engine.identify(EngineSpec.for_captions(settings)))
    run.activate(recipe)
    made = dict(by_window(run.ledger.named("batch_judgements", batch=run.batch, recipe=recipe.recipe_id)))
    rule = RetentionRule.of(settings)
    pairs = [
        pair
        for window, considered in by_window(candidates)
        for pair in missing_pairs(
            WindowId(window),
            valid_candidates(considered, rule, Surroundings()),
            recipe.recipe_id,
            made.get(window, []),
        )
    ]
    if not pairs:
        return
    wanted = {pair.window_id for pair in pairs}
    rows = [row for row in run.ledger.named("batch_previews", batch=run.batch) if row["window_id"] in wanted]
    frames_of = frames_when_asked(run.root, run.ledger, run.batch, rows, settings)
    stream = engine.stream(EngineSpec.for_captions(settings), run.log.warning)

    def asked() -> Iterator[tuple[Pair, Request | str]]:
        for pair in pairs:
            frames = frames_of(pair.window_id)
            yield pair, frames if isinstance(frames, str) else judge_request(pair, JUDGE_PROMPT, frames)

    results = (
        {"judgements": [judgement_row(pair, completion, run.run_id, datetime.now(UTC))]}
        for pair, completion in answer_each(stream, asked())
    )
    run.commit_as_they_come(results, len(pairs), journaled=True)
