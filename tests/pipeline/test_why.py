"""What is said of a window: where it is, what was made of it, what was decided, and why something is missing."""

import json
from dataclasses import replace

import pytest

from caption_assets.cli.why import print_explanation
from caption_assets.ids import ClipId
from caption_assets.ledger.schema import DriftCheckRow, DuplicateRow, EnhancedRow, WindowSetRow
from caption_assets.pipeline.why import Explanation, explain
from caption_assets.review import override, take_down
from caption_assets.settings.recipes import dedupe_recipe, enhance_recipe
from tests.ledger.story import MODEL, Story, row_of, settings

A, B = settings(prompt_text="prompt A"), settings(prompt_text="prompt B")


def why(story: Story, window: str) -> Explanation:
    explanation = explain(story.ledger, window)
    assert explanation is not None
    return explanation


@pytest.fixture
def clip(story: Story) -> ClipId:
    """A clip of three windows, none captioned."""
    story.use(A)
    with story.at_once():
        made = story.upload("clip")
        story.cut(made, 3, A)
    return made


def test_a_window_that_is_not_in_the_ledger_has_no_explanation(story: Story, clip: ClipId) -> None:
    assert explain(story.ledger, "w0") is None


def test_a_window_nothing_was_made_of_says_so(story: Story, clip: ClipId, capsys: pytest.CaptureFixture[str]) -> None:
    said = why(story, story.windows()[0])
    assert (said.candidates, said.history, said.enhancements, said.takedowns) == ([], [], [], [])
    assert (said.window.clip_id, said.window.files) == (clip, ["b/clip.mp4"])
    print_explanation(said)
    assert "no candidate has been made for it" in capsys.readouterr().out


def test_candidates_of_older_recipes_come_last_and_are_not_judged_by_the_decision_in_force(
    story: Story, clip: ClipId
) -> None:
    window = story.windows()[0]
    story.caption(A)
    story.use(B)
    story.caption(B)
    kept, old = why(story, window).candidates
    assert (kept.action, kept.text) == ("keep", f"prompt B 0 of {window} by stage 1")
    assert (old.action, old.reason, old.text) == ("not judged", None, f"prompt A 0 of {window} by stage 1")
    assert len(why(story, window).history) == 2


def test_a_collapsed_window_names_the_other_the_distance_and_its_candidates(
    story: Story, clip: ClipId, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two, _ = story.windows()
    recipe = story.activate(dedupe_recipe(settings(mode="exact"))).recipe_id
    story.commit(row_of(DuplicateRow, window_id=two, duplicate_of=one, recipe_id=recipe, mode="exact", distance=0.0,
                        evidence='{"frames": 4}', **story.made()))  # fmt: skip
    story.caption(A)
    explained = why(story, two)
    [collapse] = explained.duplicates
    assert (collapse.batch, collapse.duplicate_of, collapse.is_shown) == ("b", one, True)
    assert (collapse.mode, collapse.distance, collapse.evidence) == ("exact", 0.0, {"frames": 4})
    assert [(each.window_id, each.action) for each in explained.candidates] == [(one, "keep")]
    print_explanation(explained)
    said = capsys.readouterr().out
    assert f"in b it is collapsed (exact, distance 0.000) into {one}, whose captions it shows" in said
    assert f"  of {one}\n" in said
    assert why(story, one).duplicates == []
    assert [each.action for each in why(story, one).candidates] == ["keep"]


def test_of_two_batches_the_decision_that_is_current_is_explained_and_a_person_s_before_it(
    story: Story, clip: ClipId
) -> None:
    window = story.windows()[0]
    story.caption(A)
    story.use(B, "a", "c")
    for batch in ("a", "c"):
        story.upload("clip", batch)
    assert why(story, window).candidates[0].text == f"prompt A 0 of {window} by stage 1", "only b has a current one"
    story.caption(B, "c")
    newer = why(story, window).candidates[0]
    assert (newer.action, newer.text) == ("keep", f"prompt B 0 of {window} by stage 1")
    [first, *_] = [row for row in story.all_candidates(f"window_id = '{window}'") if "prompt A" in (row.text or "")]
    override(story.root, window, [first.candidate_id], by="ann")
    assert [each.action for each in why(story, window).candidates if each.candidate_id == first.candidate_id] == [
        "keep"
    ]


def test_a_part_of_a_file_says_where_in_it_it_lies(story: Story) -> None:
    pieces = settings(prompt_text="A", split="stride")
    story.use(pieces)
    _, second = story.split(story.upload("long"), [384], pieces)
    story.cut(second, 1, pieces)
    [recorded] = story.ledger.select(WindowSetRow, "window_sets")
    [window] = story.ledger.query("SELECT window_id FROM windows WHERE clip_id = $c", c=recorded.clip_id)
    said = why(story, window["window_id"]).window
    assert (said.clip_start_s, said.clip_end_s, said.files) == (384 / 25, 768 / 25, ["b/long.mp4"])


def test_takedowns_of_its_clip_and_of_batches_that_held_it_are_named(story: Story, clip: ClipId) -> None:
    window = story.windows()[0]
    story.caption(A)
    take_down(story.root, clips=[clip], by="ann", reason="she asked")
    take_down(story.root, batches=["b"], by="bob", reason="all of it")
    said = why(story, window)
    assert [(each.object_kind, each.requested_by, each.detail) for each in said.takedowns] == [
        ("clip", "user:ann", "she asked"), ("batch", "user:bob", "all of it"),
    ]  # fmt: skip
    assert said.window.files is None
    assert [each.action for each in said.candidates] == ["not judged"], "nothing is in force on what nobody shows"


def test_what_is_not_enhanced_is_explained_as_the_table_says(story: Story) -> None:
    story.use(A)
    story.activate(enhance_recipe(A, MODEL))
    clip = story.upload("clip")
    story.cut(clip, 5, A)
    for window, status in zip(story.windows(), ("ok", "truncated", "refused", "error"), strict=False):
        story.answer(story.candidates(window, A, [status]))
    story.decide(A)
    lost = replace(story.window_rows(clip, 6, A)[5], status="error", error="frame 1300 does not decode")
    story.commit(
        lost, row_of(WindowSetRow, clip_id=clip, recipe_id=lost.recipe_id, n_windows=6, status="ok", **story.made())
    )
    said = {
        row.window_id: [skip.reason_code for skip in why(story, row.window_id).not_enhanced] for row in story.rows()
    }
    assert said == {
        row.window_id: [row.enhanced_reason] if row.enhanced_status == "skipped" else [] for row in story.rows()
    }
    assert sum(map(len, said.values())) == 5
    [skip] = why(story, story.windows()[1]).not_enhanced
    assert (skip.batch, skip.candidate_id) == ("b", story.rows()[1].candidate_id)


def test_an_enhancement_is_shown_with_its_newest_check(
    story: Story, clip: ClipId, capsys: pytest.CaptureFixture[str]
) -> None:
    story.caption(A)
    row = story.rows()[0]
    recipe = story.activate(enhance_recipe(A, MODEL)).recipe_id
    names = {"enhanced_id": "e1", "candidate_id": row.candidate_id, "window_id": row.window_id}
    story.commit(row_of(EnhancedRow, **names, recipe_id=recipe, status="ok", text="richer", **story.made()))
    assert [each.drift for each in why(story, row.window_id).enhancements] == [None]
    for number, status in enumerate(("ok", "drifted")):
        story.commit(
            row_of(DriftCheckRow, **names, check_id=f"f{number}", recipe_id="r", status=status,
                   reason="it invents a dog", evidence=json.dumps({"new": ["dog"]}), **story.made())
        )  # fmt: skip
    [enhanced] = why(story, row.window_id).enhancements
    assert (enhanced.drift, enhanced.drift_reason, enhanced.evidence) == (
        "drifted", "it invents a dog", {"new": ["dog"]},
    )  # fmt: skip
    print_explanation(why(story, row.window_id))
    assert "enhanced  ok, drifted: it invents a dog" in capsys.readouterr().out
