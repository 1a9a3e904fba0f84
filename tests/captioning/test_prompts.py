"""A prompt per clip: which text of a clip's columns is its prompt."""

from caption_assets.engines.protocol import EngineIdentity
from caption_assets.pipeline.clip_prompts import ClipPrompts, clip_prompts
from caption_assets.settings import Settings
from caption_assets.settings.recipes import caption_recipe

IDENTITY = EngineIdentity("vllm", "0.25", "Qwen/Qwen3-VL-8B-Instruct", "0123abc")


def row(clip: str, text: str | None, *, there: bool = True, batch: str = "b") -> dict[str, object]:
    return {"batch": batch, "clip_id": clip, "is_there": there, "text": text}


def test_a_text_is_the_prompt_also_an_empty_one_and_anything_else_is_none() -> None:
    rows = [row("c1", "Who?"), row("c2", ""), row("c3", None), row("c4", None, there=False)]
    assert clip_prompts(rows) == {"b": ClipPrompts({"c1": "Who?", "c2": ""}, n_others=2, is_column=True)}


def test_of_the_files_of_one_clip_the_first_with_a_text_says_which() -> None:
    rows = [row("c1", None), row("c1", "One?"), row("c1", "Two?"), row("c2", "Same?"), row("c2", "Same?")]
    assert clip_prompts(rows) == {
        "b": ClipPrompts({"c1": "One?", "c2": "Same?"}, n_others=0, is_column=True, n_ambiguous=1)
    }


def test_each_batch_is_told_apart_and_a_key_with_other_values_alone_is_a_column() -> None:
    rows = [row("c1", "A?", batch="a"), row("c1", None, batch="b"), row("c1", None, there=False, batch="c")]
    assert clip_prompts(rows) == {
        "a": ClipPrompts({"c1": "A?"}, 0, is_column=True),
        "b": ClipPrompts({}, 1, is_column=True),
        "c": ClipPrompts({}, 1, is_column=False),
    }
    assert clip_prompts([]) == {}


def test_the_prompt_of_a_clip_wins_over_text_and_variant_and_is_the_same_task_wherever_it_comes_from() -> None:
    settings = Settings.of(
        {"caption.prompt_text": "batch", "caption.prompt_variant": "av", "caption.prompt_key": "question"}
    )
    for text in ("Who?", ""):
        own = caption_recipe(settings, IDENTITY, text)
        assert own.prompts[0].text == text
        assert own.recipe_id == caption_recipe(Settings.of({"caption.prompt_text": text}), IDENTITY).recipe_id
    assert caption_recipe(settings, IDENTITY).prompts[0].text == "batch"
