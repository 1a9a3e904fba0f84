"""A judge over a batch: pairs of captions through the engine, answers into the ledger."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

from caption_assets.captioning.decisions import RetentionRule, Surroundings, valid_candidates
from caption_assets.captioning.judging import JUDGE_PROMPT, Pair, by_window, judge_request, judgement_row, missing_pairs
from caption_assets.captioning.stream import NO_ANSWER, FramesOf
from caption_assets.engines.protocol import Completion, Request
from caption_assets.ids import WindowId
from caption_assets.orchestration.frames import frames_when_asked
from caption_assets.orchestration.resources import EngineResource, EngineStream
from caption_assets.orchestration.stage import StageRun
from caption_assets.recipes import judge_recipe, retention_recipe
from caption_assets.retention import parse_policy
from caption_assets.retention.policies import JUDGE
from caption_assets.settings import Settings

Row = Mapping[str, object]


def judge_batch(run: StageRun, engine: EngineResource, settings: Settings, candidates: Sequence[Row]) -> None:
    """Have the captioning model compare what gates let through, where the policy asks for a judge.

    candidates: rows of `current_candidates.sql`. What was answered before is not asked again. An engine without a
    language model judges nothing, and the policy says so in its evidence.
    """
    if not any(policy.name == JUDGE for policy in parse_policy(settings.keep_candidate_mode)):
        return
    if engine.entry.text_from_frames:
        run.log.warning(f"{run.batch}: the engine {engine.entry.name} cannot judge captions; nothing is compared")
        return
    recipe = judge_recipe(settings, engine.identify(settings.caption_spec))
    run.activate(recipe)
    made = dict(by_window(run.ledger.named("batch_judgements", batch=run.batch, recipe=recipe.recipe_id)))
    rule = RetentionRule(
        retention_recipe(settings).recipe_id, settings.keep_candidate_mode, gates=settings.gates.parameters
    )
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
    stream = engine.stream(settings.caption_spec, run.log.warning)
    results = ({"judgements": [row]} for row in _answers(stream, pairs, frames_of, run.run_id))
    run.commit_as_they_come(results, len(pairs), journaled=True)


def _answers(
    stream: EngineStream, pairs: Sequence[Pair], frames_of: FramesOf, run_id: str
) -> Iterator[dict[str, object]]:
    """Yield a row for every pair; one without frames or without an answer is an error."""
    waiting: dict[str, Pair] = {}
    failed: list[tuple[Pair, str]] = []

    def requests() -> Iterator[Request]:
        for pair in pairs:
            frames = frames_of(pair.window_id)
            if isinstance(frames, str):
                failed.append((pair, frames))
                continue
            waiting[pair.judgement_id] = pair
            yield judge_request(pair, JUDGE_PROMPT, frames)

    for completion in stream(requests()):
        pair = waiting.pop(completion.request_id)
        yield judgement_row(pair, completion, run_id, datetime.now(UTC))
    for pair, reason in [*failed, *((pair, NO_ANSWER) for pair in waiting.values())]:
        nothing = Completion(pair.judgement_id, 0, "", "error", error=reason)
        yield judgement_row(pair, nothing, run_id, datetime.now(UTC))
