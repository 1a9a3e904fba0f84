"""Enhanced captions in the views: what is shown of a drifted one, which check counts, why something is not enhanced."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from caption_assets.exchange.table import caption_rows
from caption_assets.ids import WindowId
from caption_assets.pipeline.drift_checks import drift_rows
from caption_assets.pipeline.why import explain
from caption_assets.settings import Settings
from caption_assets.settings.recipes import drift_recipe, enhance_recipe, on_drift_recipe
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
    [kept] = [row for row in story.ledger.named("batch_kept", batch="b") if row["window_id"] == window]
    row = row_of(
        "enhanced_captions", enhanced_id=f"e-{window}-{attempt}", candidate_id=kept["candidate_id"], window_id=window,
        recipe_id=enhance_recipe(A, MODEL).recipe_id, attempt=attempt, status=status, text=text,
        error="it broke" if status == "error" else None, **story._made(),
    )  # fmt: skip
    story.ledger.commit("run-1", "b", {"enhanced_captions": [row]})


def check(story: Story, chosen: Settings) -> list[Mapping[str, object]]:
    """Do what enhanced_captions does with what it has: check it under the limits of `chosen`. Return the new rows."""
    rule = drift_recipe(chosen).recipe_id
    names = {"batch": "b", "enhance": enhance_recipe(chosen, MODEL).recipe_id}
    known = {str(row["check_id"]) for row in story.ledger.named("batch_drift", **names, drift=rule)}
    story._made()
    work = story.ledger.named("batch_drift_work", **names)
    rows = list(drift_rows(work, known, rule, chosen.enhance, sees_frames=False, run_id="run-1", now=story.now))
    story.ledger.commit("run-1", "b", {"drift_checks": rows})
    return rows


def shown(story: Story) -> dict[int, tuple[object, object, object]]:
    """By window: what stands in the enhanced column, its status, and the result of the check."""
    rows = caption_rows(story.ledger, "b")
    by_view = {
        row["window_id"]: (row["enhanced_caption"], row["enhanced_status"], row["drift"])
        for row in story.ledger.query("SELECT * FROM captions")
    }
    table = {row["window_id"]: (row["enhanced_caption"], row["enhanced_status"], row["drift"]) for row in rows}
    assert all(by_view[window] == table[window] for window in by_view if table[window][1] != "skipped")
    return {int(str(row["window_index"])): table[row["window_id"]] for row in rows}


@pytest.fixture
def told(tmp_path: Path) -> Story:
    """Four windows: the enhancement drifted, changed nothing, is well, failed. Nothing is checked."""
    story = Story(tmp_path / "root")
    use(story, A)
    story.cut(story.upload("clip"), 4, A)
    story.caption(A)
    windows = story.windows()
    captions = {row["window_id"]: str(row["text"]) for row in story.ledger.named("batch_kept", batch="b")}
    enhance(story, windows[0], captions[windows[0]] + ", seen in Paris.")
    enhance(story, windows[1], captions[windows[1]])
    enhance(story, windows[2], captions[windows[2]] + ", with calm.")
    enhance(story, windows[3], "", "error")
    return story


def test_a_text_that_was_not_checked_is_not_shown_where_captions_are_to_stand_in(told: Story) -> None:
    captions = [row["caption"] for row in caption_rows(told.ledger, "b")]
    assert shown(told) == {
        **{index: (captions[index], "unchecked", None) for index in range(3)},
        3: (None, "error", None),
    }


def test_what_is_shown_of_a_drifted_text_is_set_without_another_check(told: Story) -> None:
    made = check(told, A)
    assert sorted(str(row["status"]) for row in made) == ["drifted", "ok", "unchanged"]
    captions = [str(row["caption"]) for row in caption_rows(told.ledger, "b")]
    rest = {
        1: (captions[1], "ok", "unchanged"),
        2: (captions[2] + ", with calm.", "ok", "ok"),
        3: (None, "error", None),
    }
    assert shown(told) == {0: (captions[0], "fallback", "drifted"), **rest}
    rows = caption_rows(told.ledger, "b")
    assert [row["enhanced_reason"] for row in rows] == ["new names: Paris", None, None, "it broke"]
    for on_drift, status in (("flag", "flagged"), ("keep", "ok")):
        use(told, enhancing(on_drift=on_drift))
        assert check(told, enhancing(on_drift=on_drift)) == []
        assert shown(told) == {0: (captions[0] + ", seen in Paris.", status, "drifted"), **rest}
    use(told, A)
    assert check(told, A) == []
    assert shown(told)[0] == (captions[0], "fallback", "drifted")


def test_other_limits_are_another_check_of_the_same_text(told: Story) -> None:
    check(told, A)
    strict = enhancing(drift_max_length_ratio=1.0)
    use(told, strict)
    assert {status for _, status, _ in shown(told).values()} == {"unchecked", "error"}
    assert len(check(told, strict)) == 3
    assert shown(told)[2][1:] == ("fallback", "drifted")
    use(told, A)
    assert shown(told)[2][1:] == ("ok", "ok")


def test_another_candidate_that_bears_the_text_out_is_another_check_and_the_newest_counts(told: Story) -> None:
    check(told, A)
    first, text = told.windows()[0], "It is in Paris."
    [before] = told.ledger.query("SELECT count(*) AS n FROM drift_checks WHERE window_id = $w", w=first)
    told.keep_original(first, text)
    [made] = check(told, A)
    assert (made["window_id"], made["status"], made["reason"]) == (first, "ok", None)
    assert shown(told)[0][1:] == ("ok", "ok")
    [after] = told.ledger.query("SELECT count(*) AS n FROM drift_checks WHERE window_id = $w", w=first)
    assert after["n"] == before["n"] + 1


def test_a_check_keeps_its_evidence_and_the_candidates_it_rests_on(told: Story) -> None:
    check(told, A)
    [row] = told.ledger.query(
        "SELECT * FROM drift_checks WHERE status = 'drifted' AND reason LIKE 'new names%' LIMIT 1"
    )
    evidence = json.loads(str(row["evidence"]))
    assert evidence["new_names"] == ["Paris"]
    assert evidence["reasons"][0] == "new names: Paris"
    assert len(str(row["support_sha256"])) == 32
    assert row["created_at"] < datetime(2026, 1, 2, tzinfo=UTC)


def test_what_is_not_enhanced_has_a_row_with_the_reason(tmp_path: Path) -> None:
    story = Story(tmp_path / "root")
    chosen = enhancing()
    use(story, chosen)
    clip = story.upload("clip")
    story.cut(clip, 5, chosen)
    w = story.windows()
    for window, status in zip(w, ("ok", "truncated", "refused", "error"), strict=False):
        story.answer(story.candidates(window, chosen, [status]))
    story.decide(chosen)
    lost = {**story.window_rows(clip, 6, chosen)[5], "status": "error", "error": "frame 1300 does not decode"}
    manifest = row_of("window_sets", clip_id=clip, recipe_id=lost["recipe_id"], n_windows=6, status="ok",
                      run_id="run-2", created_at=story.now)  # fmt: skip
    story.ledger.commit("run-2", "b", {"windows": [lost], "window_sets": [manifest]})
    skips = {row["window_index"]: row for row in story.ledger.named("batch_enhancement_skips", batch="b")}
    assert {index: row["reason_code"] for index, row in skips.items()} == {
        1: "truncated",
        2: "no_valid_candidate",
        3: "no_valid_candidate",
        4: "not_captioned",
        5: "window_error",
    }
    assert skips[1]["candidate_id"] is not None
    table = [(row["enhanced_status"], row["enhanced_reason"]) for row in caption_rows(story.ledger, "b")]
    assert table == [(None, None), *(("skipped", skips[index]["reason_code"]) for index in range(1, 6))]

    [refused] = story.ledger.query("SELECT * FROM caption_candidates WHERE status = 'refused'")
    story.override(refused)  # a person may keep what a model refused to say; it is still no source
    skips = {row["window_index"]: row for row in story.ledger.named("batch_enhancement_skips", batch="b")}
    assert (skips[2]["reason_code"], skips[2]["candidate_id"]) == ("refused", refused["candidate_id"])
    assert_why_says_the_same(story)


def assert_why_says_the_same(story: Story) -> None:
    """`why` asks with the joins of the view narrowed to its window, and must answer as the view does for every one."""
    windows = [row["window_id"] for row in story.ledger.query("SELECT window_id FROM windows")]
    rows = story.ledger.query("SELECT * EXCLUDE (first_upload_at) FROM enhancement_skips ORDER BY ALL")
    assert rows and len(windows) > len(rows)
    for window in windows:
        explained = explain(story.ledger, window)
        assert explained is not None
        assert explained["not_enhanced"] == [row for row in rows if row["window_id"] == window]


def test_nothing_is_skipped_where_enhancement_is_off(tmp_path: Path) -> None:
    story = Story(tmp_path / "root")
    story.use(A)
    story.cut(story.upload("clip"), 2, A)
    assert story.ledger.query("SELECT * FROM enhancement_skips") == []
    assert [row["enhanced_status"] for row in caption_rows(story.ledger, "b")] == [None, None]
