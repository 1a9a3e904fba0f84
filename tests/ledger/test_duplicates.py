"""Collapsed windows in the views, told as stories: what is missing, whose captions are served, and when its own are."""

from collections.abc import Sequence

import pytest

from caption_assets.cli.why import print_explanation
from caption_assets.ids import ClipId, WindowId
from caption_assets.pipeline.why import explain
from caption_assets.settings import Settings
from caption_assets.settings.recipes import dedupe_recipe

from .story import Story, row_of, settings

A, B = settings(prompt_text="prompt A"), settings(prompt_text="prompt B")
OFF, EXACT = settings(mode="off"), settings(dedupe_windows="exact")


def collapse(story: Story, windows: Sequence[WindowId], into: WindowId, chosen: Settings = EXACT) -> None:
    recipe = story.activate(dedupe_recipe(chosen)).recipe_id
    rows = [
        row_of("window_duplicates", window_id=window, duplicate_of=into, recipe_id=recipe, mode="exact", distance=0.0,
               evidence={"frames": 4}, **story._made())
        for window in windows
    ]  # fmt: skip
    story._commit("b", {"window_duplicates": rows})


@pytest.fixture
def clip(story: Story) -> ClipId:
    """A clip of three windows, none captioned."""
    story.use(A)
    with story.at_once():
        made = story.upload("clip")
        story.cut(made, 3, A)
    return made


def table(story: Story) -> dict[str, dict[str, object]]:
    return {str(row["window_id"]): row for row in story.ledger.named("caption_table", batch="b")}


def status(story: Story) -> dict[str, object]:
    return story.ledger.named("status", batch="b")[0]


def test_a_collapsed_window_needs_no_captions_and_shows_those_of_the_other(story: Story, clip: ClipId) -> None:
    one, two, three = story.windows()
    collapse(story, [two, three], one)
    assert story.missing() == [one]
    assert table(story)[two]["status"] == "not_captioned"
    assert table(story)[two]["duplicate_of"] == one, "also before there is a caption"
    assert story.caption(A) == 1
    assert story.missing() == []
    text = f"prompt A 0 of {one} by stage 1"
    assert story.served() == story.served("b") == dict.fromkeys((one, two, three), (text, True))
    rows = table(story)
    assert {w: row["duplicate_of"] for w, row in rows.items()} == {one: None, two: one, three: one}
    assert {(row["status"], row["caption"], row["is_current"], row["n_candidates"]) for row in rows.values()} == {
        ("captioned", text, True, 1)
    }
    assert {name: status(story)[name] for name in ("windows_ok", "collapsed", "captioned", "captions_missing")} == {
        "windows_ok": 3,
        "collapsed": 2,
        "captioned": 3,
        "captions_missing": 0,
    }
    shown = story.ledger.query("SELECT window_id, duplicate_of FROM captions WHERE duplicate_of IS NOT NULL")
    assert {row["window_id"]: row["duplicate_of"] for row in shown} == {two: one, three: one}
    assert story.ledger.named("check_windows_have_candidates", batch="b") == []
    assert story.ledger.named("check_one_decision_per_candidate", batch="b") == []
    assert story.ledger.named("problems", batch="b") == []


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
    assert all(row["duplicate_of"] is None for row in table(story).values())
    assert status(story)["collapsed"] == 0
    story.use(B)
    assert story.missing() == [one], "new ones are made for the other alone"
    assert story.served() == {w: (text, False) for w, (text, _) in own.items()}, "until they are there nothing changes"
    story.caption(B)
    assert set(story.served().values()) == {(f"prompt B 0 of {one} by stage 1", True)}
    assert status(story)["collapsed"] == 2
    assert story.count("caption_candidates") == 4


def test_a_window_whose_own_candidates_all_failed_shows_the_others(story: Story, clip: ClipId) -> None:
    one, two, _ = story.windows()
    story.activate(dedupe_recipe(OFF))
    story.answer([*story.candidates(one, A), *story.candidates(two, A, ["error"])])
    story.decide(A)
    assert two not in story.served()
    collapse(story, [two], one)
    assert story.served()[two] == story.served("b")[two] == story.served()[one]
    assert two not in story.missing()
    assert story.ledger.named("check_one_decision_per_candidate", batch="b") == []


def test_a_failure_of_the_other_is_one_problem(story: Story, clip: ClipId) -> None:
    one, two, three = story.windows()
    collapse(story, [two, three], one)
    story.answer(story.candidates(one, A, ["error"]))
    story.decide(A)
    assert story.served() == {}
    assert [row["name"] for row in story.ledger.named("problems", batch="b")] == ["clip.mp4 window 0"]
    assert [row["window_id"] for row in story.ledger.named("check_windows_have_candidates", batch="b")] == [one]
    story.answer(story.candidates(one, A, ["empty"], attempt=2))
    story.decide(A)
    [problem] = story.ledger.named("problems", batch="b")
    assert "every candidate was dropped" in str(problem["error"])


def test_a_person_decides_for_the_other_and_for_the_collapsed_window_itself(story: Story, clip: ClipId) -> None:
    one, two, three = story.windows()
    story.activate(dedupe_recipe(OFF))
    story.caption(A)
    own = story.ledger.query("SELECT * FROM caption_candidates WHERE window_id = $w", w=two)[0]
    collapse(story, [two, three], one)
    story.use(B)
    story.answer(story.candidates(one, B, ["ok", "ok"]))
    chosen = story.ledger.query("SELECT * FROM caption_candidates WHERE text LIKE 'prompt B 1%'")[0]
    story.override(chosen)
    assert story.served()[three] == (chosen["text"], True), "who stands for it was decided by a person"
    story.override(own)
    assert story.served()[two] == story.served("b")[two] == (own["text"], False), "a person chose this one for it"


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
    faults = story.ledger.named("check_windows_have_candidates", batch="b")
    assert [row["window_id"] for row in faults] == [three]


def test_a_clip_that_is_taken_down_takes_its_duplicates_along(story: Story, clip: ClipId) -> None:
    one, two, three = story.windows()
    collapse(story, [two, three], one)
    story.caption(A)
    story.take_down("clip", clip)
    assert story.served() == {}
    assert story.count("batch_duplicates") == 0


def test_why_names_the_other_window_the_distance_and_its_candidates(
    story: Story, clip: ClipId, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two, _ = story.windows()
    collapse(story, [two], one)
    story.caption(A)
    explained = explain(story.ledger, two)
    assert explained is not None
    [duplicate] = explained["duplicates"]
    assert (duplicate["batch"], duplicate["duplicate_of"], duplicate["is_shown"]) == ("b", one, True)
    assert (duplicate["mode"], duplicate["distance"], duplicate["evidence"]) == ("exact", 0.0, {"frames": 4})
    assert [(c["window_id"], c["action"]) for c in explained["candidates"]] == [(one, "keep")]
    print_explanation(explained)
    said = capsys.readouterr().out
    assert f"in b it is collapsed (exact, distance 0.000) into {one}, whose captions it shows" in said
    assert f"  of {one}\n" in said
    other = explain(story.ledger, one)
    assert other is not None
    assert other["duplicates"] == []
    assert [c["action"] for c in other["candidates"]] == ["keep"]


def test_an_old_part_without_prints_is_read(story: Story, clip: ClipId) -> None:
    """Rows of a ledger that knew no prints: nothing is known of those windows."""
    import polars as pl

    new = ("frame_hashes", "luma_low", "luma_high", "color", "frames_digest")
    for part in (story.root.ledger / "parts" / "windows").glob("*/*.parquet"):
        pl.read_parquet(part).drop(new).write_parquet(part)
    story.ledger.rebuild()
    assert len(story.windows()) == 3
    assert story.ledger.query("SELECT DISTINCT frame_hashes, color FROM windows") == [
        {"frame_hashes": None, "color": None}
    ]
