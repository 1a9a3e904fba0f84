"""`caption-assets reproduce`: a stored candidate made again from the ledger alone."""

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from caption_assets.captioning.tasks import Slot, Task, first_request, second_requests
from caption_assets.engines.dispatcher import stream
from caption_assets.engines.protocol import EngineSpec
from caption_assets.engines.registry import EngineEntry, choose_engine
from caption_assets.ids import CandidateId, RecipeId, WindowId
from caption_assets.ledger.database import Ledger
from caption_assets.ledger.schema import CandidateRow, PromptRow, RecipeRow, ReproductionRow
from caption_assets.ledger.store import Session
from caption_assets.pipeline.frames import ensure_frames, frames_reader, read_frame_sources
from caption_assets.root import RootFolder
from caption_assets.settings import Settings
from caption_assets.settings.groups import CaptionSettings, EngineSettings
from caption_assets.settings.recipes import recorded
from caption_assets.video.frame_store import WindowFrames
from caption_assets.video.pack import PackRule

BATCH_OF_CLIP = """
    SELECT min(batch) FROM live_uploads
    WHERE status = 'ok' AND clip_id IN (SELECT coalesce(source_clip_id, clip_id) FROM clips WHERE clip_id = $clip)
"""
"""The first batch that has the file of a clip."""


class NothingToReproduce(ValueError):
    """No model made the candidate. The message says where it came from."""


class CannotReproduce(RuntimeError):
    """What the candidate was made from is not there any more. The message says what is missing."""


@dataclass(frozen=True, slots=True)
class _MadeOf:
    """Everything that it takes to make a candidate again.

    parent: the caption that it refined. batch: one that has the clip. frames: where those of its window come from.
    """

    candidate: CandidateRow
    recipe: RecipeRow
    prompt: str
    parent: CandidateRow | None
    batch: str
    frames: WindowFrames


@dataclass(frozen=True, slots=True)
class _Window:
    """A window, and the recipe that cut it."""

    window_id: str
    clip_id: str
    window_recipe_id: str


def reproduce_candidate(root: RootFolder, ledger: Ledger, candidate_id: str) -> dict[str, object] | None:
    """Make a candidate again with its own recipe and seed; record and return whether the texts are equal.

    Today's settings play no part. None where there is no such candidate.

    Raises:
        NothingToReproduce: no model made it.
        CannotReproduce: its frames cannot be had.
        UnknownEngine: its engine cannot run here.
    """
    origin = ledger.read(_read_origin, candidate_id)
    if origin is None:
        return None
    candidate, recipe = origin.candidate, origin.recipe
    params = json.loads(recipe.params)
    pack = PackRule(params["frame_factor"], params["frame_quality"])
    packs, lost = ensure_frames(root, origin.batch, [origin.frames], Settings.of({}), pack)
    frames = frames_reader(packs, lost)(WindowId(candidate.window_id))
    if isinstance(frames, str):
        raise CannotReproduce(f"{candidate_id}: {frames}")
    task = Task(
        WindowId(candidate.window_id),
        RecipeId(candidate.recipe_id),
        (Slot(candidate.sample_index, candidate.attempt),),
        stage=candidate.stage,
        parents=((CandidateId(origin.parent.candidate_id), origin.parent.text or ""),) if origin.parent else (),
    )
    stage2 = params["stage2_prompt"] or ""
    ask = recorded(CaptionSettings, params, prompt_text=origin.prompt, stage2_prompt_text=stage2)
    request = first_request(task, ask, frames) if task.stage == 1 else second_requests(task, ask, frames)[0]
    entry = choose_engine(recipe.engine or "")
    spec = _spec(entry, recipe.model_id or "", recipe.model_revision or "", params.get("engine_options", {}))
    identity = entry.identify(spec)
    engine = entry.load(spec)
    try:
        [completion] = stream(engine, [request])
    finally:
        engine.close()
    matched = completion.text == candidate.text
    made = ReproductionRow(
        candidate_id=candidate_id,
        matched=matched,
        text=completion.text,
        run_id=f"reproduce-{uuid.uuid4()}",
        created_at=datetime.now(UTC),
    )
    ledger.commit([made])
    return {
        "candidate": candidate_id,
        "matched": matched,
        "stored": candidate.text,
        "made now": completion.text,
        "engine": f"{recipe.engine} {recipe.engine_version}, now {identity.engine} {identity.engine_version}",
    }


def _read_origin(session: Session, candidate_id: str) -> _MadeOf | None:
    """Return what a candidate was made of, or None where there is no such candidate."""
    by_id = "caption_candidates WHERE candidate_id = $candidate"
    candidates = session.select(CandidateRow, by_id, candidate=candidate_id)
    if not candidates:
        return None
    [candidate] = candidates
    if candidate.origin != "model":
        how = "came with the video" if candidate.origin == "original" else f"was imported from {candidate.origin}"
        raise NothingToReproduce(f"{candidate_id} {how}; there is nothing to make again")
    [recipe] = session.select(RecipeRow, "recipes WHERE recipe_id = $recipe", recipe=candidate.recipe_id)
    prompts = session.select(PromptRow, "prompts WHERE prompt_sha256 = $prompt", prompt=recipe.prompt_sha256)
    parents = session.select(CandidateRow, by_id, candidate=candidate.parent_candidate_id)
    cut = "(SELECT window_id, clip_id, recipe_id AS window_recipe_id FROM windows WHERE window_id = $window) cut"
    [window] = session.select(_Window, cut, window=candidate.window_id)
    [[batch]] = session.rows(BATCH_OF_CLIP, clip=window.clip_id)
    if batch is None:
        raise CannotReproduce(f"{candidate_id}: its clip is in no batch any more")
    [frames] = read_frame_sources(session, batch, [window])
    return _MadeOf(
        candidate=candidate,
        recipe=recipe,
        prompt=prompts[0].text if prompts else "",
        parent=parents[0] if parents else None,
        batch=batch,
        frames=frames,
    )


def _spec(entry: EngineEntry, model: str, revision: str, options: Mapping[str, Any]) -> EngineSpec:
    """Return what loads the model of a recipe: today's settings say only where servers and folders of weights are."""
    today = EngineSpec.for_captions(Settings.load())
    folder = EngineSettings(model_dir=today.engine.model_dir)
    named = EngineSpec(CaptionSettings(model=model, revision=revision), folder, today.server).with_options(options)
    if not Path(today.model).exists():
        return named
    stage = named.stage.model_copy(update={"model": today.model, "revision": None})
    in_folder = replace(named, stage=stage)
    found = entry.identify(in_folder)
    return in_folder if (found.model_id, found.model_revision) == (model, revision) else named
