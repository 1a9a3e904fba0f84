"""Engines that fail: what was finished is kept, what was not is done by the next run, and nobody is left loaded."""

import pytest

from tests.orchestration.engines import EngineLog, dying_at, failing_at, gone_from
from tests.orchestration.running import CHECKS, query, run_job, table

NEW = {"caption.prompt_text": "Hm?"}
"""Settings that make every window be captioned anew."""


def test_a_window_that_the_engine_cannot_do_is_an_error_row_and_only_it_is_tried_again(copy):
    ran = run_job(copy, settings=NEW, log=EngineLog(answer=failing_at(1)))
    assert ran.ok
    assert ran.counts("vl_captions") == (2, 0, 1)
    assert ran.checks == {**dict.fromkeys(CHECKS, True), "windows_have_candidates": False}
    runs = query(copy, "SELECT asset_key, status FROM runs WHERE run_id = $run", run=ran.result.run_id)
    assert {"asset_key": "vl_captions", "status": "partial"} in runs
    [row] = query(copy, "SELECT window_id, attempt, error, text FROM caption_candidates WHERE status = 'error'")
    assert (row["attempt"], row["error"], row["text"]) == (1, "out of memory", "")

    retried = run_job(copy, settings=NEW)
    assert retried.work == {"caption": 1, "enhance": 1}
    done = query(
        copy, "SELECT attempt, status FROM caption_candidates WHERE window_id = $w AND attempt = 2", w=row["window_id"]
    )
    assert done == [{"attempt": 2, "status": "ok"}]
    assert retried.checks == dict.fromkeys(CHECKS, True)
    assert {row["status"] for row in table(copy)} == {"captioned"}


@pytest.mark.xfail(strict=True, reason="views.sql batch_decisions prefers a decision over nothing but errors")
def test_a_window_without_a_new_caption_keeps_serving_the_old_one_marked_not_current(copy):
    before = {row["window_id"]: row["caption"] for row in table(copy)}
    run_job(copy, settings=NEW, log=EngineLog(answer=failing_at(1)))
    rows = table(copy)
    assert [row["status"] for row in rows] == ["captioned"] * 3
    assert [row["is_current"] for row in rows].count(False) == 1
    assert all(row["caption"] == before[row["window_id"]] for row in rows if not row["is_current"])


def test_a_candidate_that_failed_is_made_again_alone(copy):
    four = {"caption.caption_num": 4, "caption.sampling_params": {"temperature": 0.8}}

    def all_but_the_third(request, completions):
        for completion in completions:
            if completion.sample_index != 2 or request.purpose != "caption":
                yield completion

    ran = run_job(copy, settings=four, log=EngineLog(answer=all_but_the_third))
    assert ran.counts("vl_captions") == (0, 0, 3)
    retried = run_job(copy, settings=four)
    assert retried.work["caption"] == 3
    made = query(
        copy, "SELECT sample_index, attempt, status FROM caption_candidates WHERE sample_index = 2 ORDER BY attempt"
    )
    assert [(row["attempt"], row["status"]) for row in made] == [(1, "error")] * 3 + [(2, "ok")] * 3
    assert retried.checks == dict.fromkeys(CHECKS, True)


def test_an_engine_that_dies_is_started_again_and_what_killed_it_twice_is_an_error_row(copy):
    ran = run_job(copy, settings=NEW, log=EngineLog(answer=dying_at(1)))
    assert len(ran.engine.loaded) == ran.engine.closed > 1
    assert ran.counts("vl_captions") == (1, 0, 2)
    errors = query(copy, "SELECT error FROM caption_candidates WHERE run_id = $run AND error IS NOT NULL",
                   run=ran.result.run_id)  # fmt: skip
    assert [row["error"] for row in errors] == ["the engine died of it twice: the GPU has fallen off the bus"] * 2

    retried = run_job(copy, settings=NEW)
    assert retried.ok
    assert retried.work == {"caption": 2, "enhance": 2}
    assert retried.checks == dict.fromkeys(CHECKS, True)


def test_an_engine_that_cannot_be_had_fails_the_run_and_costs_only_what_was_not_finished(copy):
    ran = run_job(copy, settings=NEW, log=EngineLog(answer=gone_from(1)))
    assert not ran.ok
    assert (len(ran.engine.loaded), ran.engine.closed) == (1, 1)
    assert "no server answers" in ran.error()
    [run] = query(
        copy, "SELECT status, error FROM runs WHERE run_id = $run AND asset_key = 'vl_captions'", run=ran.result.run_id
    )
    assert run["status"] == "failed"
    assert "no server answers" in run["error"]
    assert ran.new_rows["caption_candidates"] == 1

    retried = run_job(copy, settings=NEW)
    assert retried.ok
    assert retried.work == {"caption": 2, "enhance": 3}
    assert retried.checks == dict.fromkeys(CHECKS, True)


def test_an_enhancement_that_failed_is_tried_again_and_the_caption_is_served_meanwhile(copy):
    new = {"enhance": {"prompt_text": "More."}}
    ran = run_job(copy, settings=new, log=EngineLog(answer=failing_at(0, purpose="enhance")))
    assert ran.counts("enhanced_captions") == (2, 0, 1)
    rows = table(copy)
    assert all(row["caption"] for row in rows)
    assert [row["enhanced_caption"] for row in rows].count(None) == 1
    retried = run_job(copy, settings=new)
    assert retried.work == {"enhance": 1}
    assert all(row["enhanced_caption"] for row in table(copy))


def test_an_engine_is_loaded_once_and_closed_after_a_good_run(small):
    assert len(small.engine.loaded) == small.engine.closed == 1  # the captions and their enhancement have one model
