"""Recipes: every setting that can change a result, as canonical JSON, addressed by its hash.

Batch size, worker count, timeouts and other tuning stay out: they may not change a result. A setting that was added
later is marked `Later` in its group and enters a recipe only where it differs from its first default, so that no id
changes that a ledger holds.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from caption_assets import ids
from caption_assets.ids import RecipeId
from caption_assets.settings import Settings
from caption_assets.settings.groups import Group, Later
from caption_assets.settings.prompts import JUDGE_PROMPT, Prompt

Kind = Literal[
    "clip", "split", "window", "dedupe", "caption", "enhance", "drift", "on_drift", "preview", "judge", "retention"
]

GroupT = TypeVar("GroupT", bound=Group)

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
    limits = _named(settings.clip, "max_pixels", "max_duration_s", "max_frames", "max_streams")
    return _recipe(settings, "clip", "probe", limits)


def split_recipe(settings: Settings) -> Recipe:
    """How a file is split into clips. Settings of another way of splitting change nothing.

    Separate from the clip recipe, so that another split probes no file again, and another limit splits none again.
    """
    clip = settings.clip
    names = {
        "none": (),
        "stride": ("split_length_s", "min_clip_length_s"),
        "scenes": ("scene_threshold", "min_clip_length_s", "max_clip_length_s"),
    }[clip.split]
    return _recipe(settings, "split", clip.split, _named(clip, "split", *names))


def window_recipe(settings: Settings) -> Recipe:
    """Which frames a window has, and which of them are sampled."""
    window = settings.window
    params = _named(window, "window_size", "remainder_threshold", "sampling_fps")
    return _recipe(settings, "window", f"w{window.window_size}@{window.sampling_fps:g}fps", params)


def dedupe_recipe(settings: Settings) -> Recipe:
    """Which windows are collapsed into the one before them."""
    dedupe = settings.dedupe
    params = _named(dedupe, "mode", "distance") if dedupe.mode == "near" else _named(dedupe, "mode")
    return _recipe(settings, "dedupe", dedupe.mode, params)


def caption_recipe(settings: Settings, identity: EngineIdentity, own_prompt: str | None = None) -> Recipe:
    """What a vision-language model is asked, how, and how the window looks to it.

    own_prompt: the prompt of one clip, which wins over the batch's. The recipe of such a clip is the one that the
    batch would have with this text as `prompt_text`: the same question about the same window is one task, wherever its
    words come from. So `prompt_key` is part of no recipe.
    """
    caption = settings.caption if own_prompt is None else settings.caption.asking(own_prompt)
    prompt = caption.prompt
    params: dict[str, object] = {
        **_identity_params(identity),
        "prompt_sha256": prompt.sha256,
        "n": caption.caption_num,
        **_named(caption, "system_prompt", "sampling_params", "max_output_tokens", "frame_factor", "frame_quality"),
        "stage2_prompt": caption.stage2_prompt_text if caption.generate_stage2_caption else None,
    }
    return _recipe(settings, "caption", f"{identity.model_id} {prompt.name}", params, identity, prompt)


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
        **_named(settings.caption, "frame_factor", "frame_quality"),
    }
    return _recipe(settings, "judge", f"{identity.model_id} {JUDGE_PROMPT.name}", params, identity, JUDGE_PROMPT)


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
    prompt = settings.enhance.prompt
    params = {
        **_identity_params(identity),
        "prompt_sha256": prompt.sha256,
        **_named(settings.enhance, "max_output_tokens"),
        **_named(settings.caption, "sampling_params"),
    }
    return _recipe(settings, "enhance", f"{identity.model_id} {prompt.name}", params, identity, prompt)


def drift_recipe(settings: Settings) -> Recipe:
    """When an enhanced caption counts as drifted from its source."""
    limits = _named(settings.enhance, "drift_min_length_ratio", "drift_max_length_ratio", "drift_max_lost")
    return _recipe(settings, "drift", "words", limits)


def on_drift_recipe(settings: Settings) -> Recipe:
    """What is shown of a drifted caption. Separate from the drift recipe: another choice checks nothing again."""
    return _recipe(settings, "on_drift", settings.enhance.on_drift, _named(settings.enhance, "on_drift"))


def preview_recipe(settings: Settings) -> Recipe:
    """How a preview looks. Every preview is a WebP made from the packed frames."""
    look = _named(settings.preview, "target_fps", "target_height", "quality", "compression_level")
    frames = _named(settings.caption, "frame_factor", "frame_quality")
    params = {"preview_format": "webp", "source": "packed", **look, **frames}
    return _recipe(settings, "preview", f"webp {settings.preview.target_height}p", params)


def retention_recipe(settings: Settings) -> Recipe:
    """Which gates candidates must pass, and which policy chooses among those that do."""
    retention, gates = settings.retention, settings.gates
    params = {
        "policy": retention.keep_candidate_mode,
        "seed": retention.retention_seed,
        "keep_original_sample": retention.keep_original_sample,
        "gates": _named(gates, *(name for name in type(gates).model_fields if _mark(type(gates), name) is None)),
    }
    return _recipe(settings, "retention", retention.keep_candidate_mode, params)


def recorded(group: type[GroupT], params: Mapping[str, object], **others: object) -> GroupT:
    """Return the settings of a group that a recipe with `params` was made from.

    others: settings that recipes hold under another name. A later setting that `params` lack had its first default.
    """
    later = {name: mark.first_default for name in group.model_fields if (mark := _mark(group, name))}
    named = {name: value for name, value in params.items() if name in group.model_fields}
    return group.model_validate({**later, **named, **others})


def _named(group: Group, *names: str) -> dict[str, object]:
    return {name: getattr(group, name) for name in names}


def _recipe(
    settings: Settings,
    kind: Kind,
    name: str,
    params: Mapping[str, object],
    identity: EngineIdentity | None = None,
    *prompts: Prompt,
) -> Recipe:
    """Return the recipe with `params` and with the later settings of its kind that differ from their first default."""
    later = {
        name: value
        for _, group in settings
        for name, value in group
        if (mark := _mark(type(group), name)) is not None and kind in mark.kinds and value != mark.first_default
    }
    return Recipe(kind, name, {**params, **later}, identity, prompts)


def _mark(group: type[Group], name: str) -> Later | None:
    return next((mark for mark in group.model_fields[name].metadata if isinstance(mark, Later)), None)


def _identity_params(identity: EngineIdentity) -> dict[str, object]:
    params: dict[str, object] = {
        "engine": identity.engine,
        "engine_version": identity.engine_version,
        "model_id": identity.model_id,
        "model_revision": identity.model_revision,
    }
    return {**params, "engine_options": json.loads(identity.options)} if identity.options else params
