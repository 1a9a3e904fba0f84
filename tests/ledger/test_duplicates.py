"""Collapsed windows, told as stories: what is missing, whose captions are served, and when its own are."""

from collections.abc import Sequence

import pytest

from caption_assets.ids import ClipId, WindowId
from caption_assets.ledger.schema import CaptionRow, DuplicateRow
from caption_assets.pipeline import claims
from caption_assets.settings import Settings
from caption_assets.settings.recipes import dedupe_recipe

from .story import Story, row_of, settings

A, B = settings(prompt_text="prompt A"), settings(prompt_text="prompt B")
OFF, EXACT = settings(mode="off"), settings(mode="exact")


def collapse(story: Story, windows: Sequence[WindowId], into: WindowId, chosen: Settings = EXACT) -> None:
    recipe = story.activate(dedupe_recipe(chosen)).recipe_id
    rows = [
        row_of(DuplicateRow, window_id=window, duplicate_of=into, recipe_id=recipe, mode="exact", distance=0.0,
               **story.made())
        for window in windows
    ]  # fmt: skip
    story.commit(*rows)


@pytest.fixture
def clip(story: Story) -> ClipId:
    """A clip of three windows, none captioned."""
    story.use(A)
    with story.at_once():
        made = story.upload("clip")
        story.cut(made, 3, A)
    return made


def table(story: Story) -> dict[str, CaptionRow]:
    return {row.window_id: row for row in story.rows()}


def showing_another(story: Story) -> dict[str, str | None]:
    """Return the windows that show the caption of another one, with that."""
    return {row.window_id: row.duplicate_of for row in story.rows() if row.duplicate_of}


def test_a_collapsed_window_needs_no_captions_and_shows_those_of_the_other(story: Story, clip: ClipId) -> None:
    one, two, three = story.windows()
    collapse(story, [two, three], one)
    assert story.missing() == [one]
    assert table(story)[two].status == "not_captioned"
    assert table(story)[two].duplicate_of == one, "also before there is a caption"
    assert story.caption(A) == 1
    assert story.missing() == []
    text = f"prompt A 0 of {one} by stage 1"
    assert story.served() == dict.fromkeys((one, two, three), (text, True))
    assert showing_another(story) == {two: one, three: one}
    assert [(row.status, row.captions, row.n_candidates) for row in story.rows()] == [("captioned", [text], 1)] * 3
    check_claims(story)


def check_claims(story: Story) -> None:
    for claim in (claims.windows_have_candidates, claims.one_decision_per_candidate):
        assert story.ledger.read(claim, "b") == []


def test_a_collapsed_window_follows_the_other_through_a_changed_prompt(story: Story, clip: ClipId) -> None:
    one, two, three = story.windows()
    collapse(story, [two, three], one)
    story.caption(A)
    story.use(B)
    assert story.missing() == [one]
    assert set(story.served().values()) == {(f"prompt A 0 of {one} by stage 1", False)}
    story.caption(B)
    assert set(story.served().values()) == {(f"prompt B 0 of {one} by stage 1", True)}


def test_off_captions_just_the_collapsed_windows_and_exact_then_keeps_their_own(story: Story, clip: ClipId) -> None:
    one, two, three = story.windows()
    collapse(story, [two, three], one)
    story.caption(A)
    story.activate(dedupe_recipe(OFF))
    assert story.missing() == sorted([two, three])
    assert set(story.served()) == {one}
    assert story.caption(A) == 2
    own = story.served()
    assert len(set(own.values())) == 3
    story.activate(dedupe_recipe(EXACT))
    assert story.served() == own, "captions of a window's own are better than another's"
    assert showing_another(story) == {}
    story.use(B)
    assert story.missing() == [one], "new ones are made for the other alone"
    assert story.served() == {w: (text, False) for w, (text, _) in own.items()}, "until they are there nothing changes"
    story.caption(B)
    assert set(story.served().values()) == {(f"prompt B 0 of {one} by stage 1", True)}
    assert set(showing_another(story)) == {two, three}
    assert story.count("caption_candidates") == 4


def test_a_window_whose_own_candidates_all_failed_shows_the_others(story: Story, clip: ClipId) -> None:
    one, two, _ = story.windows()
    story.activate(dedupe_recipe(OFF))
    story.answer([*story.candidates(one, A), *story.candidates(two, A, ["error"])])
    story.decide(A)
    assert two not in story.served()
    collapse(story, [two], one)
    assert story.served()[two] == story.served()[one]
    assert two not in story.missing()
    assert story.ledger.read(claims.one_decision_per_candidate, "b") == []


def test_a_failure_of_the_other_leaves_both_without_a_caption_and_one_of_them_missing(
    story: Story, clip: ClipId
) -> None:
    one, two, three = story.windows()
    collapse(story, [two, three], one)
    story.answer(story.candidates(one, A, ["error"]))
    story.decide(A)
    assert story.served() == {}
    assert story.missing() == [one]
    [fault] = story.ledger.read(claims.windows_have_candidates, "b")
    assert (fault.path, fault.window_index, fault.fault) == ("clip.mp4", 0, "1 candidates are missing")
    story.answer(story.candidates(one, A, ["empty"], attempt=2))
    story.decide(A)
    assert story.missing() == []
    for row in story.rows():
        assert (row.status, row.error) == (
            "no_valid_candidate", "every candidate was dropped: GATE_EMPTY, GATE_ERROR"
        )  # fmt: skip


def test_a_person_decides_for_the_other_and_for_the_collapsed_window_itself(story: Story, clip: ClipId) -> None:
    one, two, three = story.windows()
    story.activate(dedupe_recipe(OFF))
    story.caption(A)
    [own] = story.all_candidates(f"window_id = '{two}'")
    collapse(story, [two, three], one)
    story.use(B)
    story.answer(story.candidates(one, B, ["ok", "ok"]))
    [chosen] = story.all_candidates("text LIKE 'prompt B 1%'")
    story.override(chosen)
    assert story.served()[three] == (chosen.text, True), "who stands for it was decided by a person"
    story.override(own)
    assert story.served()[two] == (own.text, False), "a person chose this one for it"


def test_batches_collapse_by_their_own_setting(story: Story, clip: ClipId) -> None:
    one, two, three = story.windows()
    story.upload("clip", "c")
    story.use(A, "c")
    story.activate(dedupe_recipe(OFF), "c")
    collapse(story, [two, three], one)
    assert story.missing("b") == [one]
    assert len(story.missing("c")) == 3
    story.caption(A, "b")
    assert len(story.missing("c")) == 2
    story.caption(A, "c")
    assert len(set(story.served("c").values())) == 3
    assert story.served("b") == story.served("c"), "what another batch made of its own is there for this one too"


def test_a_decision_of_another_recipe_has_no_say(story: Story, clip: ClipId) -> None:
    one, two, three = story.windows()
    collapse(story, [two, three], one)
    story.activate(dedupe_recipe(settings(mode="near")))
    assert len(story.missing()) == 3
    story.activate(dedupe_recipe(EXACT))
    assert story.missing() == [one]


def test_where_the_other_window_is_not_there_the_window_is_captioned_itself(story: Story, clip: ClipId) -> None:
    _, two, _ = story.windows()
    collapse(story, [two], WindowId("w-gone"))
    assert two in story.missing()


def test_a_chain_is_a_fault_that_the_check_names(story: Story, clip: ClipId) -> None:
    one, two, three = story.windows()
    collapse(story, [two], one)
    collapse(story, [three], two)
    story.caption(A)
    [fault] = story.ledger.read(claims.windows_have_candidates, "b")
    assert (fault.window_index, fault.fault) == (2, f"it is collapsed into {two}, which is collapsed itself")


def test_a_clip_that_is_taken_down_takes_its_duplicates_along(story: Story, clip: ClipId) -> None:
    one, two, three = story.windows()
    collapse(story, [two, three], one)
    story.caption(A)
    story.take_down("clip", clip)
    assert story.served() == {}
    assert story.rows() == []
