"""Asset checks: green on a good root (see test_main_job), red on a root that is broken in the way they look for."""

import json
import uuid
from dataclasses import replace
from datetime import UTC, datetime

import dagster as dg
import pytest

from caption_assets.assets import checks
from caption_assets.definitions import defs
from caption_assets.ledger.database import Ledger
from caption_assets.ledger.schema import (
    ActiveRecipeRow,
    CandidateRow,
    ClipRow,
    ClipSetRow,
    DecisionRow,
    DriftCheckRow,
    DuplicateRow,
    EnhancedRow,
    RecipeRow,
    WindowRow,
    WindowSetRow,
)
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


def commit(root, *rows):
    return Ledger(RootFolder.at(root)).commit(rows)


def new(row, **values):
    """Return a row like `row` that somebody else writes now, with other `values`."""
    return replace(row, **{"run_id": f"test-{uuid.uuid4()}", "created_at": datetime.now(UTC), **values})


def rows_of(root, record, condition="true"):
    return Ledger(RootFolder.at(root)).select(record, f"{record.table.name} WHERE {condition}")


def make_current(root, recipe):
    made = {"run_id": recipe.run_id, "created_at": recipe.created_at}
    names = {"kind": recipe.kind, "batch": "b", "recipe_id": recipe.recipe_id}
    commit(root, recipe, ActiveRecipeRow(**names, valid_from=datetime.now(UTC), set_by="test", **made))


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
    [recipe] = rows_of(root, RecipeRow, "kind = 'window'")
    other = new(recipe, recipe_id="r" + "0" * 32)
    window = rows_of(root, WindowRow, "start_frame = 0")[0]
    broken = new(window, recipe_id=other.recipe_id, window_id="w" + "0" * 32, end_frame=window.end_frame - 5)
    manifest = new(rows_of(root, WindowSetRow)[0], clip_id=window.clip_id, recipe_id=other.recipe_id, n_windows=1)
    make_current(root, other)
    commit(root, broken, manifest)


def overlap(root):
    """A clip's frames are in two windows."""
    window = rows_of(root, WindowRow, "start_frame > 0")[0]
    [manifest] = rows_of(root, WindowSetRow, f"clip_id = '{window.clip_id}'")
    another = new(window, window_id="w" + "1" * 32, start_frame=window.start_frame - 9)
    commit(root, another, new(manifest, n_windows=manifest.n_windows + 1))


def split_with_a_gap(root):
    """A file is split into two clips that leave a frame out."""
    [recipe] = rows_of(root, RecipeRow, "kind = 'split'")
    file = rows_of(root, ClipRow)[0]
    other = new(recipe, recipe_id="r" + "4" * 32, params=recipe.params.replace('"none"', '"stride"'))
    half = file.n_frames // 2
    parts = [
        new(file, clip_id=f"c{number}" + "0" * 31, recipe_id=other.recipe_id, n_frames=last - first + 1,
            source_clip_id=file.clip_id, source_start_frame=first, source_end_frame=last, source_start_s=first / 25,
            source_end_s=(last + 1) / 25)
        for number, first, last in ((1, 0, half - 1), (2, half + 1, file.n_frames - 1))
    ]  # fmt: skip
    made = {"run_id": other.run_id, "created_at": other.created_at, "status": "ok"}
    clips = [part.clip_id for part in parts]
    make_current(root, other)
    names = {"source_clip_id": file.clip_id, "recipe_id": other.recipe_id}
    commit(root, *parts, ClipSetRow(**names, n_clips=2, clip_ids=clips, **made))


def add_a_candidate_without_verdict(root):
    candidate = rows_of(root, CandidateRow)[0]
    commit(root, new(candidate, candidate_id="k" + "0" * 32, sample_index=1))


def judge_a_candidate_twice(root):
    """Cannot be committed: the key is the decision and the candidate."""
    verdict = rows_of(root, DecisionRow)[0]
    assert commit(root, new(verdict, action="drop")) == {}


def collapse_windows_into_each_other(root):
    """Both windows of a clip are collapsed, so that neither would be captioned."""
    [recipe] = rows_of(root, RecipeRow, "kind = 'dedupe'")
    one, two = (row["window_id"] for row in query(root, "SELECT window_id FROM captions WHERE clip_path = 'b.mp4'"))
    made = {"run_id": "test", "created_at": datetime.now(UTC)}
    decision = {"recipe_id": recipe.recipe_id, "mode": "exact", "distance": 0.0, "evidence": "{}", **made}
    pairs = ((one, two), (two, one))
    commit(root, *(DuplicateRow(window_id=window, duplicate_of=other, **decision) for window, other in pairs))


def expect_other_tokens(root):
    """A candidate, with the verdict of another one, was made from more tokens than its request was expected to have."""
    candidate = rows_of(root, CandidateRow)[0]
    verdict = rows_of(root, DecisionRow, f"candidate_id = '{candidate.candidate_id}'")[0]
    name = "k" + "3" * 32
    tokens = {"sample_index": 1, "prompt_tokens": 24_219, "expected_prompt_tokens": 6_480}
    commit(root, new(candidate, candidate_id=name, **tokens), new(verdict, candidate_id=name))


def ask_for_more_candidates(root):
    [recipe] = rows_of(root, RecipeRow, "kind = 'caption'")
    make_current(root, new(recipe, recipe_id="r" + "2" * 32))


def export_what_drifted(root):
    """The exported file shows a text that the current check calls drifted."""
    [text] = rows_of(root, EnhancedRow, "window_id IN (SELECT window_id FROM captions WHERE clip_path = 'a.mp4')")
    check = rows_of(root, DriftCheckRow, f"enhanced_id = '{text.enhanced_id}'")[0]
    commit(root, new(check, check_id="f" + "5" * 32, status="drifted", reason="it invents a dog"))
    path = root / "exports" / "b" / "captions.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        if row["candidate_id"] == text.candidate_id:
            row["caption"] = "another text"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


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
        (expect_other_tokens, {"tokens_as_reckoned"}),
        (split_with_a_gap, {"clips_partition_files"}),
        (export_what_drifted, {"no_drifted_text_is_shown"}),
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
