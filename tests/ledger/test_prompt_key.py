"""A prompt per clip in the ledger: where it comes from, what is then current and missing, and what each batch shows."""

import pytest

from caption_assets.ids import ClipId, WindowId
from caption_assets.ledger.schema import SampleRow, as_json
from caption_assets.pipeline.caption_work import read_caption_work
from caption_assets.pipeline.clip_prompts import (
    activate_for_clips,
    check_prompt_key,
    prompts_of_clips,
    recipes_of_clips,
)
from caption_assets.settings import Settings, SettingsError
from caption_assets.settings.recipes import caption_recipe

from .story import MODEL, Story, row_of, settings

ODD_KEYS = ("question", "a/b", "a~b", "0", "$.x", 'q"u o', "問")


def test_a_key_and_its_text_are_taken_word_for_word(story: Story) -> None:
    columns = {key: f'of {key}: ü "quoted" \\ {{x}}\nline' for key in ODD_KEYS}
    one = story.upload("one", columns=columns)
    story.upload("two", columns={"a": {"b": "not this"}, "x": "nor this"})
    for key in ODD_KEYS:
        [prompts] = prompts_of_clips(story.ledger, settings(prompt_key=key), "b").values()
        assert (prompts.own, prompts.n_others, prompts.is_column) == ({one: columns[key]}, 1, True)


def test_the_sidecar_comes_before_the_sample_and_a_file_that_is_there_before_one_that_is_gone(story: Story) -> None:
    both = story.upload("both", columns={"q": "of the sidecar"})
    odd = story.upload("odd", columns={"q": None})
    sample = story.upload("sample")
    moved = story.upload("moved", path="a.mp4", columns={"q": "old"}, status="gone")
    story.upload("moved", path="z.mp4", columns={"q": "new"})
    gone = story.upload("gone", columns={"q": "kept"}, status="gone")
    hidden = story.upload("hidden", columns={"q": "hidden"})
    story.take_down("clip", hidden)
    videos = ["both.mp4", "odd.mp4", "sample.mp4"]
    texts = [as_json({"q": f"{i}"}) for i in range(2)]
    story.commit(*(row_of(SampleRow, batch="b", sample_index=i, videos=videos, columns=texts[i]) for i in range(2)))
    [prompts] = prompts_of_clips(story.ledger, settings(prompt_key="q"), "b").values()
    assert prompts.own == {both: "of the sidecar", odd: "0", sample: "0", moved: "new", gone: "kept"}
    assert prompts.n_ambiguous == 4


def test_a_key_that_no_clip_has_is_refused_with_those_that_are_there(story: Story) -> None:
    story.upload("one", columns={"question": "Who?", "n": None})
    story.upload("two")
    chosen = settings(prompt_key="quesiton")
    [prompts] = prompts_of_clips(story.ledger, chosen, "b").values()
    message = "no clip of the batch 'b' has the key 'quesiton' .* there: 'n', 'question'. Sidecars are read"
    with pytest.raises(SettingsError, match=message):
        check_prompt_key(story.ledger, chosen, "b", prompts)
    check_prompt_key(story.ledger, chosen, "empty", None)
    number = settings(prompt_key="n")  # it is there, with a value that is no text
    check_prompt_key(story.ledger, number, "b", prompts_of_clips(story.ledger, number, "b")["b"])


def use(story: Story, chosen: Settings, batch: str = "b") -> None:
    """What vl_captions makes current."""
    story.use(chosen, batch)
    base, own = caption_recipe(chosen, MODEL), {}
    if prompts := prompts_of_clips(story.ledger, chosen, batch).get(batch):
        own = recipes_of_clips(chosen, MODEL, prompts, base)
    activate_for_clips(story.ledger, batch, own, chosen.caption.prompt_key, story.run)


def answer_all(story: Story, prompts: dict[ClipId, str], batch: str = "b") -> int:
    """Caption what is missing, each clip under its own prompt."""
    rows = story.ledger.read(read_caption_work, batch).missing
    for row in rows:
        asked = settings(prompt_text=prompts[ClipId(row.clip_id)])
        story.answer(story.candidates(WindowId(row.window_id), asked))
        story.decide(asked, batch)
    return len(rows)


def test_only_the_clip_whose_prompt_changed_is_asked_again_and_each_batch_shows_its_own(story: Story) -> None:
    key = settings(prompt_key="q", prompt_text="batch")
    one, two = story.upload("one", columns={"q": "1a"}), story.upload("two")
    story.upload("one", "other", columns={"q": "1b"})
    for clip in (one, two):
        story.cut(clip, 2, key)
    use(story, key)
    use(story, key, "other")
    assert answer_all(story, {one: "1a", two: "batch"}) == 4
    assert answer_all(story, {one: "1b"}, "other") == 2
    shown = {batch: {text.split()[0] for text, _ in story.served(batch).values()} for batch in ("b", "other")}
    assert shown == {"b": {"1a", "batch"}, "other": {"1b"}}
    assert all(current for batch in ("b", "other") for _, current in story.served(batch).values())

    story.upload("one", columns={"q": "1b"})  # what the other batch asked already
    before = story.count("clip_recipes")
    use(story, key)
    assert story.count("clip_recipes") == before + 1
    assert answer_all(story, {}) == 0
    story.decide(settings(prompt_text="1b"))
    assert {text.split()[0] for text, _ in story.served("b").values()} == {"1b", "batch"}

    story.upload("one", columns={"q": "1c"})
    use(story, key)
    stale = story.served("b")
    assert [stale[window] for window in story.missing()] == [(text, False) for text, _ in
                                                             (stale[window] for window in story.missing())]  # fmt: skip
    assert answer_all(story, {one: "1c"}) == 2
    use(story, settings(prompt_text="batch"))  # no key: all clips are the batch's again
    assert answer_all(story, {one: "batch"}) == 2
    assert {text.split()[0] for text, current in story.served("b").values() if current} == {"batch"}
    use(story, settings(prompt_text="batch"))
    use(story, key)
    assert answer_all(story, {}) == 0


def test_a_clip_whose_prompt_is_that_of_its_batch_needs_no_recipe_of_its_own(story: Story) -> None:
    story.upload("one", columns={"q": "batch"})
    use(story, settings(prompt_key="q", prompt_text="batch"))
    assert story.count("clip_recipes") == 0
