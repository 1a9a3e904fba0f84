"""`caption-assets reproduce`: a stored candidate made again from the ledger alone."""

import json
import uuid
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from caption_assets.captioning.tasks import Slot, Task, first_request, second_requests
from caption_assets.engines.protocol import EngineSpec
from caption_assets.engines.registry import EngineEntry, choose_engine
from caption_assets.ids import CandidateId, RecipeId, WindowId
from caption_assets.ledger.database import Ledger
from caption_assets.pipeline.frames import ensure_frames, frames_reader
from caption_assets.root import RootFolder
from caption_assets.settings import Settings
from caption_assets.settings.groups import CaptionSettings, EngineSettings
from caption_assets.video.pack import PackRule


class NothingToReproduce(ValueError):
    """No model made the candidate. The message says where it came from."""


class CannotReproduce(RuntimeError):
    """What the candidate was made from is not there any more. The message says what is missing."""


def reproduce_candidate(root: RootFolder, ledger: Ledger, candidate_id: str) -> dict[str, object] | None:
    """Make a candidate again with its own recipe and seed; record and return whether the texts are equal.

    Today's settings play no part. None where there is no such candidate.

    Raises:
        NothingToReproduce: no model made it.
        CannotReproduce: its frames cannot be had.
        UnknownEngine: its engine cannot run here.
    """
    found = ledger.named("candidate_origin", candidate=candidate_id)
    if not found:
        return None
    row = found[0]
    if row["origin"] != "model":
        where = "came with the video" if row["origin"] == "original" else f"was imported from {row['origin']}"
        raise NothingToReproduce(f"{candidate_id} {where}; there is nothing to make again")
    params = json.loads(str(row["params"]))
    window = WindowId(str(row["window_id"]))
    if row["batch"] is None:
        raise CannotReproduce(f"{candidate_id}: its clip is in no batch any more")
    pack = PackRule(params["frame_factor"], params["frame_quality"])
    there, lost = ensure_frames(root, ledger, str(row["batch"]), [row], Settings.of({}), pack)
    frames = frames_reader(there, lost)(window)
    if isinstance(frames, str):
        raise CannotReproduce(f"{candidate_id}: {frames}")
    task = Task(
        window,
        RecipeId(str(row["recipe_id"])),
        (Slot(int(str(row["sample_index"])), int(str(row["attempt"]))),),
        stage=int(str(row["stage"])),
        parents=((CandidateId(str(row["parent_candidate_id"])), str(row["parent_text"])),) if row["stage"] == 2 else (),
    )
    ask = CaptionSettings(
        prompt_text=str(row["prompt"]),
        system_prompt=params["system_prompt"],
        sampling_params=params["sampling_params"],
        max_output_tokens=params["max_output_tokens"],
        stage2_prompt_text=params["stage2_prompt"] or "",
    )
    request = first_request(task, ask, frames) if task.stage == 1 else second_requests(task, ask, frames)[0]
    entry = choose_engine(str(row["engine"]))
    spec = _spec(entry, str(row["model_id"]), str(row["model_revision"]), params.get("engine_options", {}))
    identity = entry.identify(spec)
    engine = entry.load(spec)
    try:
        completion = next(iter(engine.stream([request])))
    finally:
        engine.close()
    matched = completion.text == row["text"]
    run_id = f"reproduce-{uuid.uuid4()}"
    made = {
        "candidate_id": candidate_id,
        "matched": matched,
        "text": completion.text,
        "run_id": run_id,
        "created_at": datetime.now(UTC),
    }
    ledger.commit(run_id, str(row["batch"]), {"reproductions": [made]})
    return {
        "candidate": candidate_id,
        "matched": matched,
        "stored": row["text"],
        "made now": completion.text,
        "engine": f"{row['engine']} {row['engine_version']}, now {identity.engine} {identity.engine_version}",
    }


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
