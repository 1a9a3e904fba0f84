"""Recipes: every setting that can change a result, as canonical JSON, addressed by its hash.

Batch size, worker count, timeouts and other tuning stay out: they may not change a result.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from caption_assets import ids
from caption_assets.ids import RecipeId
from caption_assets.settings import Settings
from caption_assets.settings.prompts import CAPTION_PROMPTS, ENHANCE_PROMPTS, JUDGE_PROMPT, Prompt, choose_prompt

Kind = Literal[
    "clip", "split", "window", "dedupe", "caption", "enhance", "drift", "on_drift", "preview", "judge", "retention"
]

CODE_VERSIONS: Mapping[Kind, str] = {
    "clip": "1",
    "split": "1",
    "window": "1",
    "dedupe": "1",
    "caption": "1",
    "enhance": "1",
    "drift": "1",
    "on_drift": "1",
    "preview": "2",
    "judge": "1",
    "retention": "2",
}
"""Bumped by hand when the code of a stage changes what it makes from the same input."""


@dataclass(frozen=True)
class EngineIdentity:
    """What made a text: part of every caption and enhancement recipe.

    options: canonical JSON of the engine options that can change a text, "" where there are none.
    """

    engine: str
    engine_version: str
    model_id: str
    model_revision: str
    options: str = ""


JUDGE_SAMPLING: Mapping[str, object] = {"temperature": 0.0}
JUDGE_MAX_TOKENS = 8
"""A judge answers with one letter."""


@dataclass(frozen=True)
class Recipe:
    """What made a result. Two recipes with the same `recipe_id` make the same result from the same input.

    name is a label for people and not part of the identity; model fields repeat `params` for plain SQL.
    """

    kind: Kind
    name: str
    params: Mapping[str, object]
    identity: EngineIdentity | None = None
    prompts: tuple[Prompt, ...] = field(default=())

    @property
    def canonical_json(self) -> str:
        """All parameters with the code version, keys sorted, no spaces, text as UTF-8."""
        whole = {**self.params, "code_version": CODE_VERSIONS[self.kind]}
        return json.dumps(whole, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)

    @property
    def recipe_id(self) -> RecipeId:
        """The recipe's identity."""
        return ids.recipe_id(self.kind, self.canonical_json)


def clip_recipe(settings: Settings) -> Recipe:
    """How a file is probed, and which limits it must keep."""
    names = ("max_pixels", "max_duration_s", "max_frames", "max_streams")
    return Recipe("clip", "probe", {name: getattr(settings, name) for name in names})


def split_recipe(settings: Settings) -> Recipe:
    """How a file is split into clips. Settings of another way of splitting change nothing.

    Apart from the clip recipe, so that no file is probed again for another split, and none split again for another
    limit.
    """
    names = {
        "none": (),
        "stride": ("split_length_s", "min_clip_length_s"),
        "scenes": ("scene_threshold", "min_clip_length_s", "max_clip_length_s"),
    }[settings.split]
    params = {"split": settings.split, **{name: getattr(settings, name) for name in names}}
    return Recipe("split", settings.split, params)


def window_recipe(settings: Settings) -> Recipe:
    """Which frames a window has, and which of them are sampled."""
    names = ("window_size", "remainder_threshold", "sampling_fps")
    params = {name: getattr(settings, name) for name in names}
    return Recipe("window", f"w{settings.window_size}@{settings.sampling_fps:g}fps", params)


def dedupe_recipe(settings: Settings) -> Recipe:
    """Which windows are collapsed into the one before them."""
    params: dict[str, object] = {"mode": settings.dedupe_windows}
    if settings.dedupe_windows == "near":
        params["distance"] = settings.dedupe_distance
    return Recipe("dedupe", settings.dedupe_windows, params)


def caption_recipe(settings: Settings, identity: EngineIdentity, own_prompt: str | None = None) -> Recipe:
    """What a vision-language model is asked, how, and how the window looks to it.

    own_prompt: the prompt of one clip, which wins over the batch's. Such a clip has a recipe of its own, the one that
    the batch would have with this text as `prompt_text`, and `prompt_key` is no part of any: the same question about
    the same window is one task wherever its words come from, and all that asks a candidate for its prompt asks its
    recipe. The other way, the prompt's hash as a column of candidates, of decisions and of what is missing, would save
    a row of `recipes` for each prompt that differs, and cost every one of these questions a second key.
    """
    text = settings.prompt_text if own_prompt is None else own_prompt
    prompt = choose_prompt(CAPTION_PROMPTS, settings.prompt_variant, text)
    params: dict[str, object] = {
        **_identity_params(identity),
        "prompt_sha256": prompt.sha256,
        "system_prompt": settings.system_prompt,
        "n": settings.caption_num,
        "sampling_params": settings.sampling_params,
        "max_output_tokens": settings.max_output_tokens,
        "frame_factor": settings.frame_factor,
        "frame_quality": settings.frame_quality,
        "stage2_prompt": settings.stage2_prompt_text if settings.generate_stage2_caption else None,
    }
    return Recipe("caption", f"{identity.model_id} {prompt.name}", params, identity, (prompt,))


def original_recipe() -> Recipe:
    """The recipe of captions that came with the videos."""
    identity = EngineIdentity("original", "1", "original", "1")
    return Recipe("caption", "original caption", {**_identity_params(identity), "n": 1}, identity)


def judge_recipe(settings: Settings, identity: EngineIdentity) -> Recipe:
    """How the captioning model compares two captions; it sees the window as it does for captioning."""
    params = {
        **_identity_params(identity),
        "prompt_sha256": JUDGE_PROMPT.sha256,
        "sampling_params": dict(JUDGE_SAMPLING),
        "max_output_tokens": JUDGE_MAX_TOKENS,
        "frame_factor": settings.frame_factor,
        "frame_quality": settings.frame_quality,
    }
    return Recipe("judge", f"{identity.model_id} {JUDGE_PROMPT.name}", params, identity, (JUDGE_PROMPT,))


def imported_recipe(origin: str, model: str) -> Recipe:
    """The recipe of captions that were made elsewhere. origin: the layout that they came in."""
    identity = EngineIdentity("import", "1", model, "unknown")
    return Recipe("caption", f"{model} by {origin}", {**_identity_params(identity), "origin": origin, "n": 1}, identity)


def imported_enhance_recipe(origin: str, model: str) -> Recipe:
    """The recipe of enhanced captions that were made elsewhere."""
    identity = EngineIdentity("import", "1", model, "unknown")
    return Recipe("enhance", f"{model} by {origin}", {**_identity_params(identity), "origin": origin}, identity)


def imported_preview_recipe(origin: str) -> Recipe:
    """The recipe of previews that were made elsewhere."""
    return Recipe("preview", f"by {origin}", {"origin": origin})


def enhance_recipe(settings: Settings, identity: EngineIdentity) -> Recipe:
    """What a text model is asked about a kept caption."""
    prompt = choose_prompt(ENHANCE_PROMPTS, settings.enhance.prompt_variant, settings.enhance.prompt_text)
    params = {
        **_identity_params(identity),
        "prompt_sha256": prompt.sha256,
        "max_output_tokens": settings.enhance.max_output_tokens,
        "sampling_params": settings.sampling_params,
    }
    return Recipe("enhance", f"{identity.model_id} {prompt.name}", params, identity, (prompt,))


def drift_recipe(settings: Settings) -> Recipe:
    """When an enhanced caption counts as drifted from its source."""
    names = ("drift_min_length_ratio", "drift_max_length_ratio", "drift_max_lost")
    return Recipe("drift", "words", {name: getattr(settings.enhance, name) for name in names})


def on_drift_recipe(settings: Settings) -> Recipe:
    """What is shown of a drifted caption. Apart from the drift recipe, so that showing it otherwise checks nothing."""
    return Recipe("on_drift", settings.enhance.on_drift, {"on_drift": settings.enhance.on_drift})


def preview_recipe(settings: Settings) -> Recipe:
    """How a preview looks, and whether it is made from the packed frames or from the clip."""
    if not previews_decode_again(settings):
        return packed_preview_recipe(settings)
    params = {**_preview_params(settings), "source": "clip"}
    return Recipe("preview", f"{settings.preview_format} {settings.target_height}p from the clip", params)


def packed_preview_recipe(settings: Settings) -> Recipe:
    """How a preview made from the packed frames looks."""
    packed = {"frame_factor": settings.frame_factor, "frame_quality": settings.frame_quality}
    params = {**_preview_params(settings), **packed, "source": "packed"}
    return Recipe("preview", f"{settings.preview_format} {settings.target_height}p", params)


def previews_decode_again(settings: Settings) -> bool:
    """Tell whether previews want more frames than were sampled, and may have them from the clip."""
    return settings.preview_source == "clip" and settings.target_fps > settings.sampling_fps


def retention_recipe(settings: Settings) -> Recipe:
    """Which gates candidates must pass, and which policy chooses among those that do."""
    params = {
        "policy": settings.keep_candidate_mode,
        "seed": settings.retention_seed,
        "keep_original_sample": settings.keep_original_sample,
        "gates": settings.gates.model_dump(),
    }
    return Recipe("retention", settings.keep_candidate_mode, params)


def _preview_params(settings: Settings) -> dict[str, object]:
    names = ("preview_format", "target_fps", "target_height", "quality", "compression_level")
    return {name: getattr(settings, name) for name in names}


def _identity_params(identity: EngineIdentity) -> dict[str, object]:
    params: dict[str, object] = {
        "engine": identity.engine,
        "engine_version": identity.engine_version,
        "model_id": identity.model_id,
        "model_revision": identity.model_revision,
    }
    return {**params, "engine_options": json.loads(identity.options)} if identity.options else params
