"""A judge over a batch: pairs of captions through the engine, answers into the ledger."""

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime

from caption_assets.captioning.decisions import RetentionRule, Surroundings, valid_candidates
from caption_assets.captioning.judging import Pair, judge_request, judgement_row, missing_pairs
from caption_assets.engines.dispatcher import Asked
from caption_assets.engines.loaded import LoadedEngines
from caption_assets.engines.protocol import EngineSpec
from caption_assets.ids import WindowId
from caption_assets.ledger.captions import group
from caption_assets.pipeline.caption_work import CaptionWork
from caption_assets.pipeline.frames import frames_when_asked, read_frame_sources
from caption_assets.pipeline.retain import asks_a_judge, read_judgements
from caption_assets.pipeline.stage_run import StageRun
from caption_assets.settings import Settings
from caption_assets.settings.prompts import JUDGE_PROMPT
from caption_assets.settings.recipes import judge_recipe


def judge_batch(run: StageRun, engine: LoadedEngines, settings: Settings, work: CaptionWork) -> None:
    """Have the captioning model compare what gates let through, where the policy asks for a judge.

    What was answered before is not asked again. An engine without a language model judges nothing, and the policy says
    so in its evidence.
    """
    if not asks_a_judge(settings):
        return
    if engine.entry.text_from_frames:
        run.log.warning(f"{run.batch}: the engine {engine.entry.name} cannot judge captions; nothing is compared")
        return
    recipe = judge_recipe(settings, engine.identify(EngineSpec.for_captions(settings)))
    run.activate(recipe)
    judgements = run.ledger.read(read_judgements, run.batch, recipe.recipe_id)
    made = group(judgements, lambda row: row.window_id)
    rule = RetentionRule.of(settings)
    pairs = [
        pair
        for row, candidates in work.current_candidates
        for pair in missing_pairs(
            WindowId(row.window_id),
            valid_candidates(candidates, rule, Surroundings()),
            recipe.recipe_id,
            made.get(row.window_id, []),
        )
    ]
    if not pairs:
        return
    wanted = {pair.window_id for pair in pairs}
    rows = [row for row in work.rows if row.window_id in wanted]
    frames_of = frames_when_asked(run.root, run.batch, run.ledger.read(read_frame_sources, run.batch, rows), settings)

    def asked() -> Iterator[Asked[Pair]]:
        for pair in pairs:
            frames = frames_of(pair.window_id)
            yield pair, frames if isinstance(frames, str) else judge_request(pair, JUDGE_PROMPT, frames)

    with closing(engine.dispatcher(EngineSpec.for_captions(settings), run.log.warning)) as dispatcher:
        results = (
            [judgement_row(pair, completion, run.run_id, datetime.now(UTC))]
            for pair, completion in dispatcher.answers(asked())
        )
        run.commit_as_they_come(results, len(pairs))
