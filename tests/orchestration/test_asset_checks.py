"""Asset checks: green on a good root (see test_main_job), red on a root that is broken in the way they look for."""

import uuid
from datetime import UTC, datetime

import dagster as dg
import pytest

from caption_assets.assets import checks
from caption_assets.definitions import defs
from caption_assets.ledger.database import Ledger
from caption_assets.orchestration.resources import RootResource
from caption_assets.root import RootFolder
from tests.orchestration.running import CHECKS, query


def evaluate(root, partition=None):
    """Run the checks alone, as from the asset's page: on one batch, or on all of the ledger."""
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("video_batch", ["b"])
        result = dg.materialize(
            [*defs.assets, *checks.ASSET_CHECKS],
            selection=dg.AssetSelection.checks(*checks.ASSET_CHECKS),
            resources={**defs.resources, "root": RootResource(path=str(root))},
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            instance=instance,
            tags={"dagster/partition": partition} if partition else None,
        )
    return {each.check_name: each for each in result.get_asset_check_evaluations()}


def commit(root, table, rows):
    made = {"run_id": f"test-{uuid.uuid4()}", "created_at": datetime.now(UTC)}
    return Ledger(RootFolder.at(root)).commit(str(made["run_id"]), "b", {table: [{**row, **made} for row in rows]})


def rows_of(root, table, where="true"):
    return query(root, f"SELECT * EXCLUDE (run_id, created_at) FROM {table} WHERE {where}")


def make_current(root, recipe):
    now = datetime.now(UTC)
    active = {
        "kind": recipe["kind"],
        "batch": "b",
        "recipe_id": recipe["recipe_id"],
        "valid_from": now,
        "set_by": "test",
    }
    commit(root, "recipes", [recipe])
    commit(root, "active_recipes", [active])


def damage_a_preview(root):
    path = next((root / "previews" / "b").glob("*.webp"))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def lose_a_preview(root):
    next((root / "previews" / "b").glob("*.webp")).unlink()


def damage_a_poster(root):
    path = next((root / "previews" / "b").glob("*.jpg"))
    path.write_bytes(path.read_bytes()[:-1] + b"?")


def lose_a_poster(root):
    next((root / "previews" / "b").glob("*.jpg")).unlink()


def swap_two_previews(root):
    rows = query(root, "SELECT uri FROM previews ORDER BY n_frames")
    (root / rows[0]["uri"]).write_bytes((root / rows[-1]["uri"]).read_bytes())


def leave_a_gap(root):
    """The newest window set of a clip lacks the clip's last frames."""
    [recipe] = rows_of(root, "recipes", "kind = 'window'")
    other = {**recipe, "recipe_id": "r" + "0" * 32}
    window = rows_of(root, "windows", "start_frame = 0")[0]
    broken = {
        **window,
        "recipe_id": other["recipe_id"],
        "window_id": "w" + "0" * 32,
        "end_frame": window["end_frame"] - 5,
    }
    manifest = {
        "clip_id": window["clip_id"],
        "recipe_id": other["recipe_id"],
        "n_windows": 1,
        "window_ids_sha256": "0" * 32,
        "status": "ok",
    }
    make_current(root, other)
    commit(root, "windows", [broken])
    commit(root, "window_sets", [manifest])


def overlap(root):
    """A clip's frames are in two windows."""
    window = rows_of(root, "windows", "start_frame > 0")[0]
    commit(root, "windows", [{**window, "window_id": "w" + "1" * 32, "start_frame": window["start_frame"] - 9}])
    [manifest] = [row for row in rows_of(root, "window_sets") if row["clip_id"] == window["clip_id"]]
    commit(root, "window_sets", [{**manifest, "n_windows": manifest["n_windows"] + 1}])


def add_a_candidate_without_verdict(root):
    candidate = rows_of(root, "caption_candidates")[0]
    commit(root, "caption_candidates", [{**candidate, "candidate_id": "k" + "0" * 32, "sample_index": 1}])


def judge_a_candidate_twice(root):
    """Cannot be committed: the key is the decision and the candidate."""
    verdict = rows_of(root, "retention_decisions")[0]
    assert commit(root, "retention_decisions", [{**verdict, "action": "drop"}]) == {"retention_decisions": 0}


def collapse_windows_into_each_other(root):
    """Both windows of a clip are collapsed, so that neither would be captioned."""
    [recipe] = rows_of(root, "recipes", "kind = 'dedupe'")
    one, two = (row["window_id"] for row in query(root, "SELECT window_id FROM batch_windows WHERE path = 'b.mp4'"))
    decision = {"recipe_id": recipe["recipe_id"], "mode": "exact", "distance": 0.0, "evidence": {}}
    pairs = ((one, two), (two, one))
    rows = [{**decision, "window_id": window, "duplicate_of": other} for window, other in pairs]
    commit(root, "window_duplicates", rows)


def reckon_other_tokens(root):
    """A candidate, with the verdict of another one, was made from more tokens than its request was reckoned at."""
    candidate = rows_of(root, "caption_candidates")[0]
    verdict = rows_of(root, "retention_decisions", f"candidate_id = '{candidate['candidate_id']}'")[0]
    other = {"candidate_id": "k" + "3" * 32}
    tokens = {"sample_index": 1, "prompt_tokens": 24_219, "expected_prompt_tokens": 6_480}
    commit(root, "caption_candidates", [{**candidate, **other, **tokens}])
    commit(root, "retention_decisions", [{**verdict, **other}])


def ask_for_more_candidates(root):
    [recipe] = rows_of(root, "recipes", "kind = 'caption'")
    other = {**recipe, "recipe_id": "r" + "2" * 32}
    make_current(root, other)


@pytest.mark.parametrize(
    ("break_it", "red"),
    [
        (damage_a_preview, {"previews_decode"}),
        (lose_a_preview, {"previews_decode"}),
        (swap_two_previews, {"previews_decode"}),
        (damage_a_poster, {"previews_decode"}),
        (lose_a_poster, {"previews_decode"}),
        (leave_a_gap, {"windows_partition_clips", "windows_have_candidates", "previews_decode"}),
        (overlap, {"windows_partition_clips", "windows_have_candidates", "previews_decode"}),
        (add_a_candidate_without_verdict, {"one_decision_per_candidate"}),
        (reckon_other_tokens, {"tokens_as_reckoned"}),
        (collapse_windows_into_each_other, {"windows_have_candidates"}),
        (ask_for_more_candidates, {"windows_have_candidates"}),
        (judge_a_candidate_twice, set()),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_check_is_red_when_its_claim_is_broken_and_says_where(copy, break_it, red):
    break_it(copy)
    found = evaluate(copy)
    assert found.keys() == CHECKS
    assert {name for name, check in found.items() if not check.passed} == red
    for name in red:
        metadata = found[name].metadata
        assert metadata["faults"].value >= 1
        assert metadata["what is wrong"].records[0].data["path"] in ("a.mp4", "b.mp4")


def test_a_check_of_one_batch_does_not_look_at_another(copy):
    damage_a_preview(copy)
    assert not evaluate(copy, "b")["previews_decode"].passed
    assert evaluate(copy, "elsewhere")["previews_decode"].passed
