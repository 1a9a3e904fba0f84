"""A prompt per clip: which text of a clip's columns is its prompt."""

import json

from caption_assets.engines.protocol import EngineIdentity
from caption_assets.pipeline.clip_prompts import ClipPrompts, FileColumns, clip_prompts
from caption_assets.settings import Settings
from caption_assets.settings.recipes import caption_recipe

IDENTITY = EngineIdentity("vllm", "0.25", "Qwen/Qwen3-VL-8B-Instruct", "0123abc")


KEY = "question"


def file(
    clip: str, value: object = None, *, has_key: bool = True, batch: str = "b", path: str = "", status: str = "ok"
) -> FileColumns:
    columns = {"other": "text", **({KEY: value} if has_key else {})}
    return FileColumns(batch, clip, path or f"{clip}.mp4", status, json.dumps(columns), -1)


def test_a_text_is_the_prompt_also_an_empty_one_and_anything_else_is_none() -> None:
    files = [file("c1", "Who?"), file("c2", ""), file("c3"), file("c4", has_key=False), file("c5", 7)]
    none = FileColumns("b", "c6", "c6.mp4", "ok", None, -1)
    assert clip_prompts([*files, none], KEY) == {"b": ClipPrompts({"c1": "Who?", "c2": ""}, n_others=4, is_column=True)}


def test_of_the_files_of_one_clip_the_first_that_is_there_and_has_a_text_says_which() -> None:
    files = [
        file("c1", "Gone?", path="a", status="gone"),
        file("c1", "Two?", path="d"),
        file("c1", None, path="b"),
        file("c1", "One?", path="c"),
        file("c2", "Same?", path="e"),
        file("c2", "Same?", path="f"),
    ]
    assert clip_prompts(files, KEY) == {
        "b": ClipPrompts({"c1": "One?", "c2": "Same?"}, n_others=0, is_column=True, n_ambiguous=1)
    }


def test_each_batch_is_told_apart_and_a_key_with_other_values_alone_is_a_column() -> None:
    files = [file("c1", "A?", batch="a"), file("c1", None, batch="b"), file("c1", has_key=False, batch="c")]
    assert clip_prompts(files, KEY) == {
        "a": ClipPrompts({"c1": "A?"}, 0, is_column=True),
        "b": ClipPrompts({}, 1, is_column=True),
        "c": ClipPrompts({}, 1, is_column=False),
    }
    assert clip_prompts([], KEY) == {}


def test_the_prompt_of_a_clip_wins_over_text_and_variant_and_is_the_same_task_wherever_it_comes_from() -> None:
    settings = Settings.of(
        {"caption.prompt_text": "batch", "caption.prompt_variant": "av", "caption.prompt_key": "question"}
    )
    for text in ("Who?", ""):
        own = caption_recipe(settings, IDENTITY, text)
        assert own.prompts[0].text == text
        assert own.recipe_id == caption_recipe(Settings.of({"caption.prompt_text": text}), IDENTITY).recipe_id
    assert caption_recipe(settings, IDENTITY).prompts[0].text == "batch"
