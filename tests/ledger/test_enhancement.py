"""Enhanced captions: what is shown of a drifted one, which check counts, why something is not enhanced."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from caption_assets.ids import WindowId
from caption_assets.ledger import captions
from caption_assets.ledger.schema import DriftCheckRow, EnhancedRow, WindowSetRow
from caption_assets.pipeline.drift_checks import drift_rows, drift_work
from caption_assets.settings import Settings
from caption_assets.settings.recipes import Recipe, drift_recipe, enhance_recipe, on_drift_recipe
from tests.ledger.story import MODEL, Story, row_of, settings


def enhancing(**enhance: object) -> Settings:
    return settings(enhance=enhance)


A = enhancing()


def use(story: Story, chosen: Settings) -> None:
    story.use(chosen)
    with story.at_once():
        for recipe in (enhance_recipe(chosen, MODEL), drift_recipe(chosen), on_drift_recipe(chosen)):
            story.activate(recipe)


def enhance(story: Story, window: WindowId, text: str, status: str = "ok", attempt: int = 1) -> None:
    row = row_of(
        EnhancedRow, enhanced_id=f"e-{window}-{attempt}", candidate_id=story.row(window).candidate_id, window_id=window,
        recipe_id=enhance_recipe(A, MODEL).recipe_id, attempt=attempt, status=status, text=text,
        error="it broke" if status == "error" else None, **story.made(),
    )  # fmt: skip
    story.commit(row)


def check(story: Story, chosen: Settings) -> Sequence[DriftCheckRow]:
    """Do what enhanced_captions does with what it has: check it under the limits of `chosen`. Return the new rows."""
    by_window = captions.group(story.all_candidates(), lambda row: row.window_id)
    texts = story.ledger.select(EnhancedRow, "enhanced_captions ORDER BY enhanced_id")
    work = [each for text in texts if (each := drift_work(text, by_window[text.window_id]))]
    rule = drift_recipe(chosen).recipe_id
    known = {row.check_id for row in story.ledger.select(DriftCheckRow, "drift_checks WHERE recipe_id = $r", r=rule)}
    story.made()
    rows = list(drift_rows(work, known, rule, chosen.enhance, sees_frames=False, run_id="run-1", now=story.now))
    story.commit(*rows)
    return rows


def shown(story: Story) -> list[tuple[str | None, str | None, str | None]]:
    """Return of each window what stands in the enhanced column, its status, and the result of the check."""
    return [(row.enhanced_caption, row.enhanced_status, row.drift) for row in story.rows()]


@pytest.fixture
def told(story: Story) -> Story:
    """Four windows: the enhancement drifted, changed nothing, is well, failed. Nothing is checked."""
    use(story, A)
    story.cut(story.upload("clip"), 4, A)
    story.caption(A)
    rows = story.rows()
    windows = story.windows()
    enhance(story, windows[0], f"{rows[0].caption}, seen in Paris.")
    enhance(story, windows[1], f"{rows[1].caption}")
    enhance(story, windows[2], f"{rows[2].caption}, with calm.")
    enhance(story, windows[3], "", "error")
    return story


def test_a_text_that_was_not_checked_is_not_shown_where_captions_are_to_stand_in(told: Story) -> None:
    captions = [row.caption for row in told.rows()]
    assert shown(told) == [*((caption, "unchecked", None) for caption in captions[:3]), (None, "error", None)]


def test_what_is_shown_of_a_drifted_text_is_set_without_another_check(told: Story) -> None:
    made = check(told, A)
    assert sorted(row.status for row in made) == ["drifted", "ok", "unchanged"]
    captions = [row.caption for row in told.rows()]
    rest = [
        (captions[1], "ok", "unchanged"),
        (f"{captions[2]}, with calm.", "ok", "ok"),
        (None, "error", None),
    ]
    assert shown(told) == [(captions[0], "fallback", "drifted"), *rest]
    assert [row.enhanced_reason for row in told.rows()] == ["new names: Paris", None, None, "it broke"]
    for on_drift, status in (("flag", "flagged"), ("keep", "ok")):
        use(told, enhancing(on_drift=on_drift))
        assert check(told, enhancing(on_drift=on_drift)) == []
        assert shown(told) == [(f"{captions[0]}, seen in Paris.", status, "drifted"), *rest]
    use(told, A)
    assert check(told, A) == []
    assert shown(told)[0] == (captions[0], "fallback", "drifted")


def test_other_limits_are_another_check_of_the_same_text(told: Story) -> None:
    check(told, A)
    strict = enhancing(drift_max_length_ratio=1.0)
    use(told, strict)
    assert {status for _, status, _ in shown(told)} == {"unchecked", "error"}
    assert len(check(told, strict)) == 3
    assert shown(told)[2][1:] == ("fallback", "drifted")
    use(told, A)
    assert shown(told)[2][1:] == ("ok", "ok")


def test_another_candidate_that_bears_the_text_out_is_another_check_and_the_newest_counts(told: Story) -> None:
    check(told, A)
    first, before = told.windows()[0], told.count("drift_checks")
    told.keep_original(first, "It is in Paris.")
    [made] = check(told, A)
    assert (made.window_id, made.status, made.reason) == (first, "ok", None)
    assert shown(told)[0][1:] == ("ok", "ok")
    assert told.count("drift_checks") == before + 1


def test_of_several_attempts_the_newest_that_is_no_error_is_shown(told: Story) -> None:
    window = told.windows()[3]
    enhance(told, window, "Calm.", attempt=2)
    enhance(told, window, "", "error", attempt=3)
    caption = told.row(window).caption
    assert shown(told)[3] == (caption, "unchecked", None)
    check(told, A)
    assert told.row(window).enhance_recipe_id == enhance_recipe(A, MODEL).recipe_id
    assert told.row(window).drift == "drifted", "nearly every word was lost"


def test_a_check_keeps_its_evidence_and_the_candidates_it_rests_on(told: Story) -> None:
    check(told, A)
    [row] = told.ledger.select(DriftCheckRow, "drift_checks WHERE status = 'drifted' AND reason LIKE 'new names%'")
    evidence = json.loads(row.evidence)
    assert evidence["new_names"] == ["Paris"]
    assert evidence["reasons"][0] == "new names: Paris"
    assert len(row.support_sha256) == 32
    assert row.created_at < datetime(2026, 1, 2, tzinfo=UTC)


def test_what_is_not_enhanced_has_a_row_with_the_reason(story: Story) -> None:
    use(story, A)
    clip = story.upload("clip")
    story.cut(clip, 5, A)
    for window, status in zip(story.windows(), ("ok", "truncated", "refused", "error"), strict=False):
        story.answer(story.candidates(window, A, [status]))
    story.decide(A)
    lost = replace(story.window_rows(clip, 6, A)[5], status="error", error="frame 1300 does not decode")
    story.commit(
        lost, row_of(WindowSetRow, clip_id=clip, recipe_id=lost.recipe_id, n_windows=6, status="ok", **story.made())
    )
    rows = story.rows()
    assert [(row.enhanced_status, row.enhanced_reason) for row in rows] == [
        (None, None),
        ("skipped", "truncated"),
        ("skipped", "no_valid_candidate"),
        ("skipped", "no_valid_candidate"),
        ("skipped", "not_captioned"),
        ("skipped", "window_error"),
    ]
    assert rows[1].candidate_id is not None

    [refused] = story.all_candidates("status = 'refused'")
    story.override(refused)  # a person may keep what a model refused to say; it is still no source
    row = story.rows()[2]
    assert (row.candidate_id, row.enhanced_status, row.enhanced_reason) == (refused.candidate_id, "skipped", "refused")


def test_nothing_is_skipped_where_enhancement_is_off(story: Story) -> None:
    story.use(A)
    story.cut(story.upload("clip"), 2, A)
    assert [row.enhanced_status for row in story.rows()] == [None, None], "no recipe was made current"
    use(story, A)
    assert [row.enhanced_status for row in story.rows()] == ["skipped", "skipped"]
    story.activate(Recipe("enhance", "off", {"enabled": False}))
    assert [row.enhanced_status for row in story.rows()] == [None, None]
