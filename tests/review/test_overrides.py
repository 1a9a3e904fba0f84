"""A person's choice: it wins over every policy until it is withdrawn, and every act is on record."""

from dataclasses import replace
from pathlib import Path

import pytest

from caption_assets.exchange.table import caption_rows
from caption_assets.ids import WindowId
from caption_assets.pipeline.report import problems
from caption_assets.pipeline.why import explain
from caption_assets.review import ReviewError, override, withdraw_override
from caption_assets.root import RootFolder
from caption_assets.settings.recipes import retention_recipe
from tests.ledger.story import Story, settings

FOUR = settings(prompt_text="A", caption_num=4, keep_candidate_mode="first")


@pytest.fixture
def window(story: Story) -> WindowId:
    """A window with four candidates: the second was cut off, the third is empty, the fourth failed."""
    story.use(FOUR)
    with story.at_once():
        story.cut(story.upload("clip", caption="what the uploader wrote"), 1, FOUR)
    (window,) = story.windows()
    story.answer(story.candidates(window, FOUR, ["ok", "truncated", "empty", "error"]))
    story.decide(FOUR)
    return window


def ids_of(story: Story) -> list[str]:
    rows = story.ledger.query("SELECT candidate_id FROM caption_candidates ORDER BY origin, sample_index")
    return [str(row["candidate_id"]) for row in rows]


def shown(story: Story) -> list[str]:
    [row] = story.rows()
    return row.candidate_ids or []


def test_an_override_wins_until_it_is_withdrawn_and_every_act_stays(story: Story, window: WindowId) -> None:
    first, second, *_ = ids_of(story)
    assert shown(story) == [first]
    rows = override(story.root, window, [second], by="ann", note="better")
    assert [(row.action, row.candidate_id == second) for row in rows].count(("keep", True)) == 1
    assert len(rows) == 4, "every considered candidate has a verdict"
    assert shown(story) == [second]

    everyone = FOUR.with_overrides(["retention.keep_candidate_mode=all"])
    story.activate(retention_recipe(everyone))
    story.decide(everyone)
    assert shown(story) == [second], "a later policy does not win"

    override(story.root, window, [second, first], by="bob")
    assert shown(story) == [second, first], "the newest person wins, in the order given"
    withdraw_override(story.root, window, by="ann", note="as it was")
    assert shown(story) == [first, second], "policies decide again"
    override(story.root, window, [first], by="eve")
    assert shown(story) == [first], "after a withdrawal a window can be overridden again"
    explanation = explain(story.ledger, window)
    assert explanation is not None
    history = [each for each in explanation.history if each.policy == "override"]
    said = [(each.decided_by, len(each.kept), each.is_withdrawal, each.note) for each in history]
    assert said == [
        ("user:ann", 1, False, "better"), ("user:bob", 2, False, None), ("user:ann", 0, True, "as it was"),
        ("user:eve", 1, False, None),
    ]  # fmt: skip
    assert story.ledger.verify() == []


def test_a_person_may_keep_what_a_gate_dropped_and_the_original_and_none_at_all(story: Story, window: WindowId) -> None:
    other = settings(prompt_text="B", caption_num=1)
    story.use(other)
    [made] = story.candidates(window, other, ["ok"])
    refused = replace(made, status="refused", text="I cannot describe this.")
    story.answer([refused])
    story.decide(other)
    override(story.root, window, [refused.candidate_id], by="ann")
    assert shown(story) == [refused.candidate_id]

    story.keep_original(window, "what the uploader wrote")
    [original] = story.ledger.query("SELECT candidate_id FROM caption_candidates WHERE origin = 'original'")
    override(story.root, window, [original["candidate_id"]], by="ann")
    [row] = caption_rows(story.ledger, "b")
    assert (row.caption, row.decided_by, row.is_current) == ("what the uploader wrote", "user:ann", False)

    override(story.root, window, [], by="ann", note="nothing fits")
    assert shown(story) == []
    [row] = caption_rows(story.ledger, "b")
    assert (row.status, row.error) == (
        "no_valid_candidate", "every candidate was dropped: NOT_CHOSEN_BY_PERSON",
    )  # fmt: skip
    assert story.ledger.read(problems, "b") == [], "that is a choice and no failure"


def test_tables_are_written_again_also_of_a_batch_that_shares_the_window(story: Story, window: WindowId) -> None:
    story.use(FOUR, "c")
    story.upload("clip", "c")
    second = ids_of(story)[1]
    override(story.root, window, [second], by="ann")
    for batch in ("b", "c"):
        text = (story.root.exports(batch) / "captions.jsonl").read_text(encoding="utf-8")
        assert f'"candidate_id": "{second}"' in text
        assert '"decided_by": "user:ann"' in text


def test_what_cannot_be_is_refused_and_changes_nothing(story: Story, window: WindowId) -> None:
    with story.at_once():
        story.cut(story.upload("other"), 1, FOUR)
    (elsewhere,) = set(story.windows()) - {window}
    story.answer(story.candidates(elsewhere, FOUR, ["ok"]))
    good, _, empty, _ = (row.candidate_id for row in story.all_candidates(f"window_id = '{window}'"))
    [foreign] = (row.candidate_id for row in story.all_candidates(f"window_id = '{elsewhere}'"))
    before = story.count("retention_decisions")
    for window_id, keep, by, message in [
        ("w0", [good], "ann", "no such window"),
        (window, ["k0"], "ann", "no such candidate"),
        (window, [foreign], "ann", "is a caption of"),
        (window, [empty], "ann", "has no text"),
        (window, [good, good], "ann", "named twice"),
        (window, [good], " ", "1 to 100 printable"),
        (window, [good], "a\nb", "1 to 100 printable"),
    ]:
        with pytest.raises(ReviewError, match=message):
            override(story.root, window_id, keep, by=by)
    with pytest.raises(ReviewError, match="no override to withdraw"):
        withdraw_override(story.root, window, by="ann")
    assert story.count("retention_decisions") == before


def test_a_root_without_a_ledger_has_no_window(tmp_path: Path) -> None:
    with pytest.raises(ReviewError, match="no such window"):
        override(RootFolder.at(tmp_path / "new"), "w1", [], by="ann")
