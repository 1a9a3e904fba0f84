"""From candidate rows to decision rows: one row per candidate, the same ids for the same decision."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caption_assets.captioning.decisions import RetentionRule, candidate_set_hash, decision_id, decision_rows
from caption_assets.ids import RecipeId, WindowId
from caption_assets.ledger.schema import CandidateRow, DecisionRow
from caption_assets.settings.groups import GateSettings, RetentionSettings
from tests.ledger.story import row_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)
WINDOW = WindowId("w")


def candidate(
    name: str, text: str = "a dog runs", status: str = "ok", index: int = 0, stage: int = 1, **more: object
) -> CandidateRow:
    return row_of(
        CandidateRow, candidate_id=name, text=text, status=status, sample_index=index, stage=stage, origin="model",
        recipe_id="r-caption", **more,
    )  # fmt: skip


def judge(
    candidates: list[CandidateRow], policy: str = "first", reference: str | None = None, seed: int = 0
) -> dict[str, DecisionRow]:
    retention = RetentionSettings(keep_candidate_mode=policy, retention_seed=seed)
    rule = RetentionRule(RecipeId(f"r-{policy}"), retention, GateSettings(min_words=0))
    rows = decision_rows(WINDOW, candidates, rule, reference, "run", NOW)
    assert [row.candidate_id for row in rows] == [c.candidate_id for c in candidates]
    return {row.candidate_id: row for row in rows}


def test_no_candidate_no_decision() -> None:
    assert judge([]) == {}


def test_each_candidate_gets_a_verdict_and_all_share_the_decision() -> None:
    rows = judge([candidate("k1", index=1), candidate("k0"), candidate("k2", "", "error", 2)])
    assert {name: row.action for name, row in rows.items()} == {"k0": "keep", "k1": "drop", "k2": "drop"}
    assert rows["k2"].rank is None
    for column in ("decision_id", "candidate_set_sha256", "window_id", "recipe_id", "policy_recipe_id", "created_at"):
        assert len({getattr(row, column) for row in rows.values()}) == 1, column
    assert {row.decided_by for row in rows.values()} == {"policy"}


@pytest.mark.parametrize(
    ("second_status", "kept"),
    [("ok", "k-two"), ("truncated", "k-two"), ("empty", "k-one"), ("error", "k-one"), ("refused", "k-one")],
)
def test_a_caption_that_was_refined_gives_way_to_a_good_second_stage_only(second_status: str, kept: str) -> None:
    text = "a better text" if second_status in ("ok", "truncated") else ""
    rows = judge([candidate("k-one"), candidate("k-two", text, second_status, stage=2, parent_candidate_id="k-one")])
    assert [name for name, row in rows.items() if row.action == "keep"] == [kept]
    assert (rows["k-one"].reason_code == "GATE_SUPERSEDED") == (kept == "k-two")


def test_the_reference_decides_under_a_policy_that_looks_at_it() -> None:
    candidates = [
        candidate("k0", "a red car turns left at the lights"),
        candidate("k1", "two dogs play in the snow", index=1),
    ]
    for reference, kept in (("a red car turns left", "k0"), ("dogs play in snow", "k1")):
        rows = judge(candidates, "similar_one_simhash", reference)
        assert [name for name, row in rows.items() if row.action == "keep"] == [kept]


def test_the_same_decision_has_the_same_id_and_any_other_another() -> None:
    candidates = [candidate("k0"), candidate("k1", index=1)]
    ids = [
        judge(candidates)["k0"].decision_id,
        judge(candidates[:1])["k0"].decision_id,
        judge(candidates, "longest")["k0"].decision_id,
        judge(candidates, reference="a dog")["k0"].decision_id,
        judge(candidates, reference="a cat")["k0"].decision_id,
        judge(candidates, reference="")["k0"].decision_id,
    ]
    assert len(set(ids)) == len(ids)
    assert judge(candidates[::-1])["k0"].decision_id == ids[0]
    assert decision_id(WINDOW, RecipeId("r"), "s", None) == GOLDEN


@given(st.permutations(["k1", "k2", "k3"]))
def test_a_set_of_candidates_has_one_hash_whatever_its_order(order: list[str]) -> None:
    assert candidate_set_hash(order) == candidate_set_hash(["k1", "k2", "k3"])


GOLDEN = "d0ef8b0490369000cce0b53ed5f891b56"
