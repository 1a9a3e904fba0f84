"""What a reader of the ledger can rely on: no caption that a gate stopped unless a person said so, no lost window."""

import random
from dataclasses import replace

import pytest

from caption_assets.exchange.table import caption_rows
from caption_assets.ledger.schema import DecisionRow
from caption_assets.review import override
from caption_assets.settings.recipes import retention_recipe
from tests.ledger.story import Story, settings
from tests.retention.captions import BAD, GOOD

WINDOWS, N = 24, 3
STATUSES = ("ok", "ok", "ok", "ok", "truncated", "empty", "refused", "error")
READS_NO_PROMPT = ("prompt_echo", "wrong_script")  # the model of a story is the engine that reads none

CHOSEN = settings(caption_num=N, sampling_params={"temperature": 1}, keep_candidate_mode="first")


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """Windows with three candidates each, good and bad by chance; the first two have none that is good."""
    draw = random.Random(5)
    bad = [text for gate, text in BAD if gate not in READS_NO_PROMPT]
    story = Story(tmp_path_factory.mktemp("gates") / "root")
    story.use(CHOSEN)
    with story.at_once():
        for index in range(WINDOWS // 4):
            story.cut(story.upload(f"{index}"), 4, CHOSEN)
    rows = []
    for index, window in enumerate(story.windows()):
        for row in story.candidates(window, CHOSEN, [draw.choice(STATUSES) for _ in range(N)]):
            text = draw.choice(bad if index < 2 or draw.random() < 0.5 else GOOD)
            rows.append(replace(row, text=text if row.status in ("ok", "truncated") else ""))
    story.answer(rows)
    return story


def decide(story: Story, policy: str) -> None:
    chosen = CHOSEN.with_overrides([f"retention.keep_candidate_mode={policy}"])
    story.activate(retention_recipe(chosen))
    story.decide(chosen)


@pytest.mark.parametrize("policy", ["random_any", "all", "longest", "consensus > first"])
def test_no_caption_that_is_served_failed_a_gate_and_no_window_is_missing(story: Story, policy: str) -> None:
    decide(story, policy)
    stopped = story.ledger.query(
        """
        SELECT d.candidate_id FROM retention_decisions d
        JOIN captions c ON c.decision_id = d.decision_id WHERE d.reason_code LIKE 'GATE%' AND d.rank IS NULL
        """
    )
    served = {name for row in story.rows() for name in row.candidate_ids or ()}
    assert len(stopped) > WINDOWS
    assert served
    assert not served & {str(row["candidate_id"]) for row in stopped}
    verdicts = story.ledger.query(
        "SELECT decision_id, candidate_id, count(*) AS n FROM retention_decisions GROUP BY ALL HAVING n > 1"
    )
    assert verdicts == [], "every considered candidate has one verdict per decision"
    rows = caption_rows(story.ledger, "b")
    assert len(rows) == WINDOWS
    for row in rows:
        if row.status != "captioned":
            assert row.status == "no_valid_candidate"
            assert "GATE_" in str(row.error)
    assert sum(row.status != "captioned" for row in rows) >= 2


def test_a_person_may_say_so(story: Story) -> None:
    decide(story, "random_any")
    dropped = story.ledger.select(
        DecisionRow, "retention_decisions WHERE reason_code = 'GATE_META_TALK' ORDER BY candidate_id"
    )
    in_force = {row.decision_id for row in story.rows()}
    row = next(row for row in dropped if row.decision_id in in_force)
    override(story.root, row.window_id, [row.candidate_id], by="ann", note="true all the same")
    shown = story.row(row.window_id)
    assert (shown.candidate_id, shown.reason_code, shown.decided_by) == (
        row.candidate_id, "KEPT_BY_PERSON", "user:ann",
    )  # fmt: skip
