"""Commands that work on what is there: retain and reproduce."""

import pytest

from caption_assets.pipeline import reproduce
from tests.orchestration.engines import EngineLog
from tests.orchestration.running import counted_work, query, table


def captions(root):
    return {row["window_id"]: row["caption"] for row in table(root)}


def test_retain_decides_again_rewrites_the_tables_and_asks_no_engine(change, root):
    before = captions(root)
    log = EngineLog()
    with counted_work(log) as handed_out:
        said = change("retain", "--policy", "longest", "--json")
    assert (said.status, log.loaded, dict(handed_out)) == (0, [], {})
    assert said.json == [{"batch": "b", "policy": "longest", "windows": 3, "decided": 3, "captioned": 3}]
    after = captions(root)
    for window, caption in after.items():
        texts = query(root, "SELECT text FROM caption_candidates WHERE window_id = $w AND stage = 2", w=window)
        assert len(caption) == max(len(row["text"]) for row in texts)
    assert after != before

    again = change("retain", "--policy", "longest", "--json").json
    assert again[0]["decided"] == 0
    change("retain", "--policy", "first", "--batch", "b")
    assert captions(root) == before


@pytest.mark.parametrize("policy", ["best", "first >", "null", ""])
def test_retain_refuses_a_policy_that_there_is_not(change, policy):
    said = change("retain", "--policy", policy)
    assert said.status == 2
    assert "--policy" in said.err
    assert "random_any" in said.err


def test_every_candidate_of_both_stages_is_reproduced_word_for_word(change, root):
    rows = query(root, "SELECT candidate_id, text, stage FROM caption_candidates WHERE sample_index IN (0, 3)")
    assert {row["stage"] for row in rows} == {1, 2}
    for row in rows:
        said = change("reproduce", row["candidate_id"], "--json")
        assert said.status == 0
        assert said.json["matched"] is True
        assert said.json["made now"] == said.json["stored"] == row["text"]
    assert query(root, "SELECT count(*) n, bool_and(matched) m FROM reproductions") == [{"n": len(rows), "m": True}]


def test_reproduce_rebuilds_frames_that_were_deleted(change, root):
    for path in (root / "frames" / "b").iterdir():
        path.unlink()
    [row] = query(root, "SELECT candidate_id FROM caption_candidates ORDER BY candidate_id LIMIT 1")
    said = change("reproduce", row["candidate_id"])
    assert said.status == 0
    assert "matched     True" in said.out


def test_a_text_that_comes_out_different_ends_with_1_and_is_on_record(change, root, monkeypatch):
    [row] = query(root, "SELECT candidate_id FROM caption_candidates ORDER BY candidate_id LIMIT 1")
    make = reproduce.first_request
    monkeypatch.setattr(reproduce, "first_request", lambda *given: _with_other_seed(make(*given)))
    monkeypatch.setattr(reproduce, "second_requests", lambda *given: [_with_other_seed(make(*given))])
    said = change("reproduce", row["candidate_id"], "--json")
    assert said.status == 1
    assert said.json["matched"] is False
    assert query(root, "SELECT matched FROM reproductions") == [{"matched": False}]


def _with_other_seed(request):
    from dataclasses import replace

    return replace(request, seeds=[12345], purpose="caption")


def test_a_caption_that_came_with_the_video_cannot_be_made_again(change, root):
    (root / "uploads" / "b" / "a.txt").write_text("A counter.")
    assert change("run", root / "uploads" / "b", "--json").status == 0
    [row] = query(root, "SELECT candidate_id FROM caption_candidates WHERE origin = 'original'")
    said = change("reproduce", row["candidate_id"])
    assert said.status == 2
    assert "came with the video" in said.err


def test_reproduce_says_why_it_cannot(change, root):
    for path in [*(root / "frames" / "b").iterdir(), *(root / "uploads" / "b").iterdir()]:
        path.unlink()
    [row] = query(root, "SELECT candidate_id FROM caption_candidates ORDER BY candidate_id LIMIT 1")
    said = change("reproduce", row["candidate_id"])
    assert said.status == 1
    assert "no file of the clip is in uploads/ any more" in said.err


def test_another_threshold_decides_again_and_asks_no_engine(change, root):
    before = captions(root)
    log = EngineLog()
    with counted_work(log) as handed_out:
        said = change("retain", "--policy", "first", "--set", "gates.min_words=1000", "--json")
    assert (said.status, log.loaded, dict(handed_out)) == (0, [], {})
    assert [(row["decided"], row["captioned"]) for row in said.json] == [(3, 0)]
    rows = table(root)
    assert {row["status"] for row in rows} == {"no_valid_candidate"}
    assert all("GATE_TOO_SHORT" in row["error"] for row in rows)
    with counted_work(log):
        assert change("retain", "--policy", "first", "--json").json[0]["decided"] == 0
    assert log.loaded == []
    assert captions(root) == before
