"""Recipes: which setting changes which, and golden ids, so that an accidental change is noticed."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import pytest

from caption_assets.engines.protocol import EngineIdentity, EngineSpec
from caption_assets.settings import Settings, setting_names
from caption_assets.settings.groups import GateSettings, Later, WindowSettings
from caption_assets.settings.prompts import CAPTION_PROMPTS, ENHANCE_PROMPTS
from caption_assets.settings.recipes import (
    CODE_VERSIONS,
    Recipe,
    caption_recipe,
    clip_recipe,
    dedupe_recipe,
    drift_recipe,
    enhance_recipe,
    judge_recipe,
    on_drift_recipe,
    original_recipe,
    preview_recipe,
    recorded,
    retention_recipe,
    split_recipe,
    window_recipe,
)

GOLDEN_RECIPES = Path(__file__).parent / "settings" / "golden_recipes.json"
PINNED = {
    "vision": EngineIdentity("vllm", "0.32.0", "Qwen/Qwen3-VL-8B-Instruct", "0c351dd0"),
    "text": EngineIdentity("vllm", "0.32.0", "Qwen/Qwen3-14B", "40c06982"),
    "with options": EngineIdentity("openai", "1", "m", "unknown", options='{"fp8": true}'),
}
IDENTITY = EngineIdentity("vllm", "0.25", "Qwen/Qwen3-VL-8B-Instruct", "0123abc")


def recipes(settings: Settings, identity: EngineIdentity = IDENTITY) -> dict[str, Recipe]:
    return {
        "clip": clip_recipe(settings),
        "split": split_recipe(settings),
        "window": window_recipe(settings),
        "dedupe": dedupe_recipe(settings),
        "caption": caption_recipe(settings, identity),
        "enhance": enhance_recipe(settings, identity),
        "drift": drift_recipe(settings),
        "on_drift": on_drift_recipe(settings),
        "preview": preview_recipe(settings),
        "retention": retention_recipe(settings),
    }


def changed_by(settings: Settings) -> set[str]:
    before, after = recipes(Settings.of({})), recipes(settings)
    return {kind for kind in before if before[kind].recipe_id != after[kind].recipe_id}


# Another value of every setting, and the kinds of recipe that it changes. Model and revision come with the engine's
# identity; with an engine that has models of its own they change nothing. So do fp8, vllm_kwargs and the group engine:
# they are part of the recipe through the identity of the engines that have such options.
CHANGES: Mapping[str, tuple[Any, set[str]]] = {
    "clip.split": ("stride", {"split"}),
    "clip.split_length_s": (5.0, set()),  # files are not split
    "clip.min_clip_length_s": (1.0, set()),
    "clip.max_clip_length_s": (30.0, set()),
    "clip.scene_threshold": (20.0, set()),
    "clip.max_pixels": (5000, {"clip"}),
    "clip.max_duration_s": (5.0, {"clip"}),
    "clip.max_frames": (100, {"clip"}),
    "clip.max_streams": (5, {"clip"}),
    "window.window_size": (300, {"window"}),
    "window.remainder_threshold": (100, {"window"}),
    "window.sampling_fps": (1.0, {"window"}),
    "dedupe.mode": ("near", {"dedupe"}),
    "dedupe.distance": (0.01, set()),  # exact windows are not near ones
    "caption.model": ("qwen2.5", {"caption", "preview"}),  # its frame factor is another one
    "caption.revision": ("abc", set()),
    "caption.prompt_variant": ("av", {"caption"}),
    "caption.prompt_text": ("", {"caption"}),
    "caption.prompt_key": ("question", set()),  # a clip with a prompt of its own has a recipe of its own
    "caption.system_prompt": ("be brief", {"caption"}),
    "caption.caption_num": (2, {"caption"}),
    "caption.sampling_params": ({"temperature": 0.2}, {"caption", "enhance"}),
    "caption.max_output_tokens": (100, {"caption"}),
    "caption.generate_stage2_caption": (True, {"caption"}),
    "caption.stage2_prompt_text": ("shorter: ", set()),  # the second stage is off
    "caption.frame_quality": (80, {"caption", "preview"}),
    "caption.fp8": (True, set()),
    "caption.vllm_kwargs": ({"max_model_len": 8192}, set()),
    "caption.caption_batch_size": (8, set()),
    "retention.keep_candidate_mode": ("all", {"retention"}),
    "retention.retention_seed": (1, {"retention"}),
    "retention.keep_original_sample": (False, {"retention"}),
    "gates.min_words": (5, {"retention"}),
    "gates.max_words": (500, {"retention"}),
    "gates.echo_words": (8, {"retention"}),
    "gates.max_repeated_share": (0.4, {"retention"}),
    "gates.max_zlib_ratio": (2.5, {"retention"}),
    "gates.script": ("Latin", {"retention"}),
    "gates.max_foreign_share": (0.2, {"retention"}),
    "gates.same_caption": ("drop", {"retention"}),
    "gates.same_words": (3, {"retention"}),
    "gates.same_distance": (0.3, {"retention"}),
    "enhance.enabled": (False, set()),
    "enhance.model": ("other", set()),
    "enhance.revision": ("abc", set()),
    "enhance.prompt_variant": ("av-surveillance", {"enhance"}),
    "enhance.prompt_text": ("", {"enhance"}),
    "enhance.max_output_tokens": (100, {"enhance"}),
    "enhance.model_batch_size": (8, set()),
    "enhance.fp8": (True, set()),
    "enhance.vllm_kwargs": ({"max_model_len": 8192}, set()),
    "enhance.base_urls": (["http://gpu:8000/v1"], set()),
    "enhance.on_drift": ("flag", {"on_drift"}),
    "enhance.drift_min_length_ratio": (0.8, {"drift"}),
    "enhance.drift_max_length_ratio": (3.0, {"drift"}),
    "enhance.drift_max_lost": (0.3, {"drift"}),
    "preview.target_fps": (2.0, {"preview"}),
    "preview.target_height": (120, {"preview"}),
    "preview.quality": (60, {"preview"}),
    "preview.compression_level": (6, {"preview"}),
    "engine.model_dir": ("weights", set()),
    "engine.preprocess_dtype": ("float32", set()),
    "engine.model_does_preprocess": (True, set()),
    "engine.disable_mmcache": (True, set()),
    "openai.base_urls": (["http://gpu:8000/v1"], set()),
    "openai.api_key_env": ("KEY", set()),
    "openai.timeout_s": (5.0, set()),
    "openai.max_retries": (0, set()),
    "openai.max_concurrency": (1, set()),
    "openai.frames_as": ("images", set()),
    "decode.workers": (3, set()),
    "decode.clip_timeout_s": (5.0, set()),
    "decode.worker_memory_mb": (2048, set()),
}


def test_the_table_names_every_setting() -> None:
    assert list(CHANGES) == [name for name, _ in setting_names()]


@pytest.mark.parametrize("name", CHANGES)
def test_a_setting_changes_the_recipes_whose_results_it_changes_and_no_other(name: str) -> None:
    value, kinds = CHANGES[name]
    assert changed_by(Settings.of({name: value})) == kinds


@pytest.mark.parametrize(
    ("split", "names"),
    [
        ("stride", {"clip.split_length_s", "clip.min_clip_length_s"}),
        ("scenes", {"clip.min_clip_length_s", "clip.max_clip_length_s", "clip.scene_threshold"}),
    ],
)
def test_the_settings_of_a_split_matter_where_it_is_the_one_in_use(split: str, names: set[str]) -> None:
    all_names = ("clip.split_length_s", "clip.min_clip_length_s", "clip.max_clip_length_s", "clip.scene_threshold")
    chosen = {name: CHANGES[name][0] for name in all_names}
    before = split_recipe(Settings.of({"clip.split": split})).recipe_id
    changed = {
        n for n, v in chosen.items() if split_recipe(Settings.of({"clip.split": split, n: v})).recipe_id != before
    }
    assert changed == names


def test_options_of_an_engine_that_change_its_texts_are_part_of_the_recipe() -> None:
    spec = EngineSpec.for_captions(Settings.of({"caption.fp8": True, "caption.vllm_kwargs": {"dtype": "float16"}}))
    options = spec.options("fp8", "engine_kwargs")
    assert options == '{"engine_kwargs":{"dtype":"float16"},"fp8":true}'
    with_options = caption_recipe(Settings.of({}), replace(IDENTITY, options=options))
    assert with_options.recipe_id != caption_recipe(Settings.of({}), IDENTITY).recipe_id
    assert with_options.params["engine_options"] == {"engine_kwargs": {"dtype": "float16"}, "fp8": True}
    assert EngineSpec.for_captions(Settings.of({})).options("fp8", "engine_kwargs") == ""


def test_the_second_prompt_matters_where_there_is_a_second_stage() -> None:
    one = Settings.of({"caption.generate_stage2_caption": True})
    other = Settings.of({"caption.generate_stage2_caption": True, "caption.stage2_prompt_text": "shorter: "})
    assert caption_recipe(one, IDENTITY).recipe_id != caption_recipe(other, IDENTITY).recipe_id


def test_the_distance_matters_where_windows_are_collapsed_by_it() -> None:
    one, other = (Settings.of({"dedupe.mode": "near", "dedupe.distance": distance}) for distance in (0.03, 0.01))
    assert dedupe_recipe(one).recipe_id != dedupe_recipe(other).recipe_id


@pytest.mark.parametrize("field", ["engine", "engine_version", "model_id", "model_revision"])
def test_another_engine_or_model_makes_other_captions_and_enhancements(field: str) -> None:
    other = EngineIdentity(**{**IDENTITY.__dict__, field: "other"})
    before, after = recipes(Settings.of({})), recipes(Settings.of({}), other)
    assert {kind for kind in before if before[kind].recipe_id != after[kind].recipe_id} == {"caption", "enhance"}


def test_a_prompt_counts_by_its_text_and_not_by_its_name() -> None:
    same = Settings.of({"caption.prompt_text": CAPTION_PROMPTS["av"].text})
    variant = Settings.of({"caption.prompt_variant": "av"})
    assert caption_recipe(same, IDENTITY).recipe_id == caption_recipe(variant, IDENTITY).recipe_id


@pytest.mark.parametrize(("one", "other"), [({"temperature": 1}, {"temperature": 1.0}), ({"top_p": 1}, {"top_p": 1.0})])
def test_a_number_counts_by_its_value_and_not_by_its_spelling(one: dict[str, Any], other: dict[str, Any]) -> None:
    ids = {caption_recipe(Settings.of({"caption.sampling_params": s}), IDENTITY).recipe_id for s in (one, other)}
    assert len(ids) == 1


def test_the_order_of_keys_is_irrelevant() -> None:
    params = {"temperature": 0.5, "top_p": 0.9, "seed": 3}
    backwards = dict(reversed(params.items()))
    one, other = (caption_recipe(Settings.of({"caption.sampling_params": p}), IDENTITY) for p in (params, backwards))
    assert one.canonical_json == other.canonical_json
    assert Recipe("window", "a", {"x": 1, "y": 2}).recipe_id == Recipe("window", "b", {"y": 2, "x": 1}).recipe_id


def test_kinds_never_share_an_id() -> None:
    assert Recipe("window", "", {}).recipe_id != Recipe("clip", "", {}).recipe_id


def test_the_code_version_is_part_of_the_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    before = recipes(Settings.of({}))
    ids = {kind: recipe.recipe_id for kind, recipe in before.items()}
    for kind in CODE_VERSIONS:
        monkeypatch.setitem(CODE_VERSIONS, kind, "next")  # type: ignore[arg-type]
    assert all(recipe.recipe_id != ids[kind] for kind, recipe in recipes(Settings.of({})).items())


def test_the_parameters_are_canonical_json_with_the_text_as_it_is() -> None:
    text = window_recipe(Settings.of({})).canonical_json
    assert text == '{"code_version":"1","remainder_threshold":128,"sampling_fps":2.0,"window_size":256}'
    system = caption_recipe(Settings.of({"caption.system_prompt": 'ü "\\" {x}\n'}), IDENTITY).canonical_json
    assert '"system_prompt":"ü \\"\\\\\\" {x}\\n"' in system
    assert json.loads(system)["system_prompt"] == 'ü "\\" {x}\n'


def test_recipe_ids_never_change_by_accident() -> None:
    """A change that changes results changes these on purpose; any other would caption everything again."""
    assert {kind: recipe.recipe_id for kind, recipe in recipes(Settings.of({})).items()} == GOLDEN
    assert original_recipe().recipe_id == GOLDEN_ORIGINAL


@pytest.mark.parametrize("case", json.loads(GOLDEN_RECIPES.read_text(encoding="utf-8")))
def test_an_existing_ledger_is_not_captioned_again(case: Mapping[str, Any]) -> None:
    """Ids that ledgers hold. They were made before settings had groups."""
    settings, vision, text = Settings.of(case["settings"]), PINNED["vision"], PINNED["text"]
    made = {
        **recipes(settings, vision),
        "enhance": enhance_recipe(settings, text),
        "judge": judge_recipe(settings, vision),
        "caption_with_options": caption_recipe(settings, PINNED["with options"]),
        "caption_own_prompt": caption_recipe(settings, vision, "What is it?"),
    }
    assert {kind: recipe.recipe_id for kind, recipe in made.items()} == case["recipes"]


class WithANewSetting(WindowSettings):
    """The windows as a later version may have them."""

    sharpen: Annotated[int, Later(["window", "caption", "judge", "preview"], first_default=0)] = 0


def test_a_new_setting_at_its_default_changes_no_id_and_another_value_does() -> None:
    before, default, changed = (
        Settings().model_copy(update={"window": window})
        for window in (WindowSettings(), WithANewSetting(), WithANewSetting(sharpen=2))
    )
    ids = [
        {kind: recipe.recipe_id for kind, recipe in {**recipes(each), "judge": judge_recipe(each, IDENTITY)}.items()}
        for each in (before, default, changed)
    ]
    assert ids[0] == ids[1]
    assert {kind for kind in ids[0] if ids[0][kind] != ids[2][kind]} == {"window", "caption", "judge", "preview"}
    assert window_recipe(changed).params["sharpen"] == 2


def test_a_new_default_of_a_later_setting_changes_ids() -> None:
    class WithANewDefault(WindowSettings):
        sharpen: Annotated[int, Later(["window"], first_default=0)] = 1

    settings = Settings().model_copy(update={"window": WithANewDefault()})
    assert window_recipe(settings).recipe_id != window_recipe(Settings()).recipe_id


def test_a_new_threshold_of_a_gate_changes_no_id_at_its_default() -> None:
    class WithANewGate(GateSettings):
        min_verbs: Annotated[int, Later(["retention"], first_default=0)] = 0

    one, other = (Settings().model_copy(update={"gates": WithANewGate(min_verbs=n)}) for n in (0, 1))
    assert retention_recipe(one).recipe_id == retention_recipe(Settings()).recipe_id
    assert retention_recipe(other).recipe_id != retention_recipe(Settings()).recipe_id


def test_a_later_setting_that_a_recipe_lacks_had_its_first_default() -> None:
    class WithANewDefault(WindowSettings):
        sharpen: Annotated[int, Later(["window"], first_default=0)] = 1

    assert recorded(WithANewDefault, window_recipe(Settings()).params).sharpen == 0


def test_a_window_is_cut_again_as_its_recipe_says() -> None:
    window = WindowSettings(window_size=80, remainder_threshold=40, sampling_fps=1.5)
    recipe = window_recipe(Settings(window=window))
    assert recorded(WindowSettings, json.loads(recipe.canonical_json)) == window


def test_the_built_in_prompts_never_change_without_their_version() -> None:
    shas = {(p.name, p.version): p.sha256[:16] for p in (*CAPTION_PROMPTS.values(),)}
    assert shas == CAPTION_SHAS
    assert {(p.name, p.version): p.sha256[:16] for p in ENHANCE_PROMPTS.values()} == ENHANCE_SHAS


GOLDEN = {
    "clip": "rcab3f00d233ab5add2db7fbcef41de5b",
    "split": "rb53f7d6502ff9f7b860d86a14359fd49",
    "window": "rf7da6dc7423f8cec1880cde121142aff",
    "dedupe": "r335f95cfdbe61a3281095054e035864d",
    "caption": "rb805b2e289df62f4f624dc6859dbbddd",
    "enhance": "r99d9bb28d4eefc567536846d17d722b3",
    "drift": "rf0821b6c63dfbb8f0f49e6ee8eb2f596",
    "on_drift": "r7f0a6bd9741268b1f96ef9290510b899",
    "preview": "r13960e44050f584739e5b8cd2938f048",
    "retention": "rce5cb841a59220efb70a33dd1f080d12",
}
GOLDEN_ORIGINAL = "rbec0c8740eaced2c7f39e441a6df0e18"
CAPTION_SHAS = {
    ("default", 1): "18e53b8fec357d51",
    ("av", 1): "52117417907be569",
    ("av-surveillance", 1): "459c827029401a3c",
}
ENHANCE_SHAS = {
    ("default", 1): "0068efb6ff4261af",
    ("av-surveillance", 1): "0a163befda25c35b",
}
