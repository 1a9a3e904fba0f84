"""Enhancement by a model that reads text alone and invents: the check, what the table shows, what a person is told."""

import json
import sys
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from caption_assets.cli.main import main
from caption_assets.engines import registry
from caption_assets.engines.protocol import Completion
from caption_assets.ledger.database import Ledger
from caption_assets.ledger.schema import ActiveRecipeRow, RecipeRow
from caption_assets.root import RootFolder
from tests.orchestration.engines import EngineLog
from tests.orchestration.running import CHECKS, copy_root, query, run_job, table
from tests.orchestration.test_asset_checks import evaluate

INVENTED = "The iconic city of New York City: a city of innovation and transformation, with three towers."
NEW = {"caption.prompt_text": "Hm?"}
"""Makes every window be captioned anew."""


def text_model(request, completions):
    """Captions: the first as it is, the second cut, the third empty. The one enhancement that is asked for invents."""
    if request.purpose == "enhance":
        assert request.frames is None
        yield Completion(request.request_id, 0, f"{request.messages[-1].text} {INVENTED}", "stop")
        return
    [answer] = completions
    text_model.asked += 1
    if text_model.asked == 2:
        answer = replace(answer, finish_reason="length")
    if text_model.asked == 3:
        answer = replace(answer, text="")
    yield answer


@pytest.fixture(scope="module")
def patched():
    """The engine `signal`, which for this module claims to enhance without frames."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.ENGINES, "signal", replace(registry.ENGINES["signal"], text_from_frames=False))
        yield


@pytest.fixture(scope="module")
def drifted(small, tmp_path_factory, patched):
    """A run on a root of its own in which the text model invents."""
    root = copy_root(small.root, tmp_path_factory.mktemp("drifted") / "root")
    text_model.asked = 0
    return run_job(root, settings=NEW, log=EngineLog(answer=text_model))


def test_a_drifted_text_is_kept_in_the_ledger_and_the_table_shows_the_caption_and_says_so(drifted):
    assert drifted.ok
    [row] = [row for row in table(drifted.root) if row["drift"]]
    assert (row["enhanced_caption"], row["enhanced_status"], row["drift"]) == (row["caption"], "fallback", "drifted")
    assert "new names: New York City" in row["enhanced_reason"]
    [made] = query(drifted.root, "SELECT * FROM enhanced_captions WHERE candidate_id = $k", k=row["candidate_id"])
    assert made["text"].endswith(INVENTED)
    [check] = query(drifted.root, "SELECT * FROM drift_checks WHERE enhanced_id = $e", e=made["enhanced_id"])
    evidence = json.loads(check["evidence"])
    assert (evidence["new_names"], evidence["new_numbers"]) == (["New York City"], ["three"])
    [seen] = query(drifted.root, "SELECT * FROM captions WHERE window_id = $w", w=row["window_id"])
    assert (seen["enhanced_caption"], seen["enhanced_status"], seen["drift"]) == (row["caption"], "fallback", "drifted")
    assert drifted.checks["no_drifted_text_is_shown"]


def test_the_materialization_counts_what_drifted_and_what_was_skipped_and_why(drifted):
    shown = drifted.shown("enhanced_captions")
    assert drifted.counts("enhanced_captions") == (1, 0, 0)
    assert (shown["drift drifted"], shown["drift ok"], shown["on drift"]) == (1, 0, "fallback")
    [sample] = shown["drifted"].records
    assert "New York City" in sample.data["reason"] and "New York City" in sample.data["evidence"]
    assert (shown["skipped"], shown["skipped by reason"]) == (2, "no_valid_candidate 1, truncated 1")
    assert {record.data["reason_code"] for record in shown["not enhanced"].records} == {
        "truncated",
        "no_valid_candidate",
    }
    skipped = {row["enhanced_reason"] for row in table(drifted.root) if row["enhanced_status"] == "skipped"}
    assert skipped == {"truncated", "no_valid_candidate"}


def test_why_shows_the_enhancement_with_the_words_that_drifted_and_why_another_has_none(drifted, capsys, monkeypatch):
    def why(status):
        [window] = [row["window_id"] for row in table(drifted.root) if row["enhanced_reason"] and
                    row["enhanced_status"] == status and row["caption"]]  # fmt: skip
        monkeypatch.setattr(sys, "argv", ["caption-assets", "why", window, "--root", str(drifted.root)])
        main()
        return capsys.readouterr().out

    said = why("fallback")
    assert "drifted: new names: New York City; new numbers: three" in said
    assert '"new_names": ["New York City"]' in said
    assert INVENTED[:40] in said.replace("\n  ", " ")
    assert "is not enhanced: truncated" in why("skipped")


@pytest.fixture(scope="module")
def flagged(drifted, tmp_path_factory):
    """The same batch, drifted texts shown with a flag, under a limit that only more can exceed."""
    root = copy_root(drifted.root, tmp_path_factory.mktemp("flagged") / "root")
    settings = {**NEW, "enhance": {"on_drift": "flag", "drift_max_lost": 0.9}}
    return run_job(root, settings=settings, log=EngineLog(answer=text_model))


def test_other_limits_and_another_way_of_showing_check_again_and_enhance_nothing(flagged):
    assert (flagged.work, flagged.engine.loaded) == ({}, [])
    assert flagged.new_rows["drift_checks"] == 4  # with those of earlier captions of these windows
    assert "enhanced_captions" not in flagged.new_rows
    rows = [row for row in table(flagged.root) if row["drift"] == "drifted"]
    assert [row["enhanced_status"] for row in rows] == ["flagged"]
    assert rows[0]["enhanced_caption"].endswith(INVENTED)


def test_the_check_is_red_when_a_table_shows_what_drifted(flagged, tmp_path):
    """The table of a batch that falls back is replaced by one that does not."""
    root = copy_root(flagged.root, tmp_path / "root")
    assert evaluate(root)["no_drifted_text_is_shown"].passed  # flagged texts may be shown
    ledger, now = Ledger(RootFolder.at(root)), datetime.now(UTC)
    [rule] = ledger.select(RecipeRow, "recipes WHERE kind = 'on_drift' AND name = 'fallback'")
    [active, *_] = ledger.select(ActiveRecipeRow, "active_recipes WHERE recipe_id = $recipe", recipe=rule.recipe_id)
    ledger.commit([replace(active, valid_from=now, created_at=now, run_id="test")])
    red = evaluate(root)
    assert {name for name, check in red.items() if not check.passed} == {"no_drifted_text_is_shown"}
    [fault] = red["no_drifted_text_is_shown"].metadata["what is wrong"].records
    assert "New York City" in fault.data["fault"]
    assert red.keys() == CHECKS
