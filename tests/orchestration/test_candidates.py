"""Several candidates, a second stage, enhancement, original captions: what the settings of captions bring."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from caption_assets.engines import registry
from caption_assets.engines.protocol import Completion
from caption_assets.ledger.database import Ledger
from caption_assets.ledger.schema import ActiveRecipeRow
from caption_assets.root import RootFolder
from tests.orchestration.engines import EngineLog
from tests.orchestration.running import CHECKS, query, run_job, table

FOUR = {"caption.caption_num": 4, "caption.sampling_params": {"temperature": 0.8}}


def candidates(root, origin="model"):
    return query(
        root,
        """
        SELECT k.*, d.action, d.reason_code, count(d.candidate_id) OVER (PARTITION BY k.candidate_id) AS n_verdicts
        FROM caption_candidates k
        JOIN current_recipes r ON r.kind = 'caption' AND (r.recipe_id = k.recipe_id OR k.origin = 'original')
        LEFT JOIN captions c ON c.window_id = k.window_id
        LEFT JOIN retention_decisions d ON d.decision_id = c.decision_id AND d.candidate_id = k.candidate_id
        WHERE k.origin = $origin
        ORDER BY k.window_id, k.stage, k.sample_index
        """,
        origin=origin,
    )


def test_four_candidates_of_each_window_are_judged_once_each_and_one_is_kept(copy):
    ran = run_job(copy, settings={**FOUR, "retention.keep_candidate_mode": "consensus"})
    assert ran.work == {"caption": 12, "enhance": 3}
    assert len(ran.engine.requests) == 6  # one request for the four of a window
    rows = candidates(copy)
    assert [row["sample_index"] for row in rows] == [0, 1, 2, 3] * 3
    assert len({row["seed"] for row in rows}) == 12
    assert {row["n_verdicts"] for row in rows} == {1}
    assert sum(row["action"] == "keep" for row in rows) == 3
    assert [(row["n_candidates"], row["policy"], len(row["captions"])) for row in table(copy)] == [
        (4, "consensus", 1)
    ] * 3
    assert ran.checks == dict.fromkeys(CHECKS, True)


def test_all_candidates_are_kept_listed_and_enhanced_when_all_are_wanted(copy):
    ran = run_job(copy, settings={**FOUR, "retention.keep_candidate_mode": "all"})
    kept = [row for row in candidates(copy) if row["action"] == "keep"]
    assert ran.work == {"caption": 12, "enhance": len(kept)}
    assert ran.counts("enhanced_captions") == (len(kept), 0, 0)
    for row in table(copy):
        texts = [k["text"] for k in kept if k["window_id"] == row["window_id"]]
        assert len(texts) > 1
        assert sorted(row["captions"]) == sorted(texts)
        assert row["caption"] == row["captions"][0]


def test_another_policy_over_the_same_candidates_asks_no_engine_and_changes_the_winner(copy):
    run_job(copy, settings={**FOUR, "retention.keep_candidate_mode": "first"})
    first = {row["window_id"]: row["candidate_id"] for row in table(copy)}
    ran = run_job(copy, settings={**FOUR, "retention.keep_candidate_mode": "longest", "enhance": {"enabled": False}})
    assert ran.work == {}
    assert ran.engine.loaded == []
    assert ran.new_rows["retention_decisions"] == 12
    longest = {row["window_id"]: row["candidate_id"] for row in table(copy)}
    rows = candidates(copy)
    for window, winner in longest.items():
        texts = {row["candidate_id"]: row["text"] for row in rows if row["window_id"] == window}
        assert len(texts[winner]) == max(map(len, texts.values()))
    assert first != longest


def test_a_materialization_has_the_number_of_candidates_that_each_gate_dropped(copy):
    ran = run_job(copy, settings={"gates": {"min_words": 1000}})
    shown = ran.shown("vl_captions")
    gates = {name: number for name, number in shown.items() if name.startswith("gate ")}
    assert {name: number for name, number in gates.items() if number} == {"gate too_short": 3}
    assert len(gates) > 1


def test_the_second_stage_keeps_both_texts_and_says_which_was_refined(copy):
    ran = run_job(copy, settings={"caption.generate_stage2_caption": True, "caption.stage2_prompt_text": "Better: "})
    assert ran.work == {"caption": 3, "refine": 3, "enhance": 3}
    rows = candidates(copy)
    firsts = {row["candidate_id"]: row for row in rows if row["stage"] == 1}
    seconds = [row for row in rows if row["stage"] == 2]
    assert len(firsts) == len(seconds) == 3
    for second in seconds:
        first = firsts[second["parent_candidate_id"]]
        assert first["window_id"] == second["window_id"]
        assert first["text"] and second["text"]
        assert (first["action"], first["reason_code"], second["action"]) == ("drop", "GATE_SUPERSEDED", "keep")
    refining = [request for request in ran.engine.requests if request.purpose == "refine"]
    for request in refining:
        [_, said, asked] = request.messages
        assert said.text in {row["text"] for row in firsts.values()}
        assert asked.text == f"Better: {said.text}"
        assert request.frames.jpegs
    assert {row["caption_stage"] for row in table(copy)} == {2}
    assert ran.checks == dict.fromkeys(CHECKS, True)


def test_a_run_without_enhancement_fills_no_enhanced_column_and_one_with_it_has_them_back(copy):
    off = run_job(copy, settings={"enhance": {"enabled": False}})
    assert off.ok and off.work == {}
    assert {(r["enhanced_caption"], r["enhance_model_id"], r["status"]) for r in table(copy)} == {
        (None, None, "captioned")
    }
    on = run_job(copy)
    assert on.work == {}
    assert all(row["enhanced_caption"] for row in table(copy))


def test_a_caption_that_came_with_the_video_is_a_column_and_a_candidate(copy):
    (copy / "uploads" / "b" / "a.txt").write_text("  A counter.\n")
    ran = run_job(copy)
    assert ran.work == {}  # the video itself is not read again
    assert {row["clip_path"]: row["original_caption"] for row in table(copy)} == {"a.mp4": "A counter.", "b.mp4": None}
    [original] = candidates(copy, "original")
    assert (original["text"], original["status"], original["stage"]) == ("A counter.", "ok", 1)
    assert run_job(copy).new_rows == {"runs": 6}


def test_original_captions_can_be_left_out(copy):
    (copy / "uploads" / "b" / "a.txt").write_text("A counter.")
    run_job(copy, settings={"retention.keep_original_sample": False})
    assert candidates(copy, "original") == []


def test_a_judge_is_asked_once_in_both_orders_and_its_answers_decide_from_the_ledger_alone(copy, monkeypatch):
    reads = replace(registry.ENGINES["signal"], text_from_frames=False)  # as an engine with a language model does
    monkeypatch.setitem(registry.ENGINES, "signal", reads)

    def prefers_the_longer(request, completions):
        if request.purpose != "judge":
            yield from completions
            return
        first, second = request.messages[-1].text.split("\n\nA: ")[1].split("\n\nWhich")[0].split("\n\nB: ")
        yield Completion(request.request_id, 0, "A" if len(first) > len(second) else "B", "stop")

    caption = {"caption_num": 3, "sampling_params": {"temperature": 0.8}}
    settings = {"caption": caption, "retention.keep_candidate_mode": "judge", "enhance": {"enabled": False}}
    ran = run_job(copy, settings=settings, log=EngineLog(answer=prefers_the_longer))
    assert ran.ok
    assert ran.engine.candidates["judge"] == ran.new_rows["judgements"] == 3 * 3 * 2
    for row in candidates(copy):
        longest = max(len(k["text"]) for k in candidates(copy) if k["window_id"] == row["window_id"])
        assert (row["action"] == "keep") == (len(row["text"]) == longest)
    assert {row["reason_code"] for row in table(copy)} == {"PREFERRED_BY_JUDGE"}
    again = run_job(copy, settings=settings, log=EngineLog(answer=prefers_the_longer))
    assert (again.work, again.engine.loaded) == ({}, [])
    assert "retention_decisions" not in again.new_rows


def test_an_engine_without_a_language_model_judges_nothing_and_the_next_policy_decides(copy):
    ran = run_job(
        copy, settings={**FOUR, "retention.keep_candidate_mode": "judge > longest", "enhance": {"enabled": False}}
    )
    assert ran.ok
    assert "judge" not in ran.work
    for row in candidates(copy):
        longest = max(len(k["text"].split()) for k in candidates(copy) if k["window_id"] == row["window_id"])
        assert row["action"] == "drop" or len(row["text"].split()) == longest


def test_a_recipe_that_a_clock_ahead_of_ours_made_current_does_not_stay_so(copy):
    ledger = Ledger(RootFolder.at(copy))
    [row] = ledger.select(ActiveRecipeRow, "active_recipes WHERE kind = 'caption'")
    later = datetime.now(UTC) + timedelta(days=1)
    ledger.commit([replace(row, valid_from=later, created_at=later, run_id="of another clock")])
    ran = run_job(copy, settings={"caption.prompt_text": "What is there?"})
    assert ran.work == {"caption": 3, "enhance": 3}
    assert {shown["prompt"] for shown in table(copy)} == {"What is there?"}
    assert all(shown["is_current"] for shown in table(copy))
