"""Several batches on one root: what they share is done once, what they do not share does not mix."""

import pytest

from tests.orchestration.running import CHECKS, run_job, table
from tests.video.films import make_film


@pytest.fixture
def two(copy):
    """The batch `b` has run; the batch `x` holds its a.mp4 under another name."""
    (copy / "uploads" / "x").mkdir()
    (copy / "uploads" / "x" / "the same.mp4").hardlink_to(copy / "uploads" / "b" / "a.mp4")
    return copy


def of_a(root, batch):
    [row] = [row for row in table(root, batch) if row["clip_path"] in ("a.mp4", "the same.mp4")]
    return row


def test_a_clip_in_two_batches_is_decoded_and_captioned_once_and_both_tables_list_it(two):
    ran = run_job(two, "x")
    assert ran.work == {"inspect_file": 1}
    assert ran.checks == dict.fromkeys(CHECKS, True)
    mine, theirs = of_a(two, "x"), of_a(two, "b")
    assert (mine.pop("batch"), mine.pop("clip_path")) == ("x", "the same.mp4")
    assert (theirs.pop("batch"), theirs.pop("clip_path")) == ("b", "a.mp4")
    assert mine == theirs


def test_batches_with_different_settings_leave_each_other_alone(two):
    before = of_a(two, "b")
    ran = run_job(
        two,
        "x",
        settings={"caption.prompt_text": "Hm?", "preview.target_height": 64, "retention.keep_candidate_mode": "first"},
    )
    assert ran.work == {"inspect_file": 1, "caption": 1, "enhance": 1, "write_preview": 1}
    x = of_a(two, "x")
    assert (x["prompt"], x["policy"]) == ("Hm?", "first")

    again = run_job(two, "b")
    assert again.work == {}
    assert again.new_rows == {"runs": 6}
    assert of_a(two, "b") == before
    assert again.checks == dict.fromkeys(CHECKS, True)
    assert x["preview_path"] != before["preview_path"]


def test_one_run_takes_several_batches_and_reports_each(copy, films):
    for name, film in (("c1", "c.mp4"), ("c2", "c.mp4")):
        (copy / "uploads" / name).mkdir()
        (copy / "uploads" / name / film).hardlink_to(films / film)
    make_film(copy / "uploads" / "c2" / "d.mp4", 50)
    ran = run_job(copy, "b", last_batch="c2")
    assert ran.ok
    assert ran.checks == dict.fromkeys(CHECKS, True)
    assert ran.work == {"inspect_file": 3, "cut_clip": 2, "caption": 2, "enhance": 2, "write_preview": 2}
    assert len(ran.engine.loaded) == 1  # not one for each batch
    shown = {batch: ran.shown("vl_captions", batch) for batch in ("b", "c1", "c2")}
    assert {b: (s["new"], s["reused"]) for b, s in shown.items()} == {"b": (0, 3), "c1": (1, 0), "c2": (1, 1)}
    assert [len(table(copy, batch)) for batch in ("b", "c1", "c2")] == [3, 1, 2]
