"""What a commit takes, refuses and leaves behind."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from caption_assets.ledger.database import Ledger
from caption_assets.ledger.schema import (
    TABLES,
    CaptionRow,
    DecisionRow,
    PromptRow,
    RecipeRow,
    Record,
    UploadRow,
    WindowRow,
    as_json,
)
from caption_assets.ledger.store import LedgerError
from caption_assets.root import RootFolder

from .committing import clip_rows
from .story import everything, row_of

ODD_BATCHES = (
    "a b", "it's", 'say "x"', "[1]", "*", "?", "a%2Ab", "{a,b}", "ünïcödé 视频", "e\u0301", "🎬", "-x", "$HOME", "a;b",
    "%" * 200, "[!a]", "~", "#1", "a=b",
)  # fmt: skip


def prompt(number: int, **values: object) -> PromptRow:
    return row_of(PromptRow, prompt_sha256=f"p{number}", **{"text": f"text {number}", **values})


def texts(ledger: Ledger, table: str = "prompts") -> list[object]:
    return [row["text"] for row in ledger.query(f"SELECT text FROM {table} ORDER BY text")]


def test_the_same_rows_again_are_nothing_new(ledger: Ledger) -> None:
    rows = [prompt(1), prompt(2), *clip_rows("c", "b")]
    assert ledger.commit(rows) == {"prompts": 2, "uploads": 1, "clips": 1, "window_sets": 1, "windows": 1}
    before = everything(ledger)
    assert ledger.commit(rows) == {}
    assert ledger.commit(reversed(rows)) == {}
    assert everything(ledger) == before


def test_of_rows_with_one_key_in_a_commit_the_first_counts(ledger: Ledger) -> None:
    rows = [prompt(1, text=f"text {i:04}") for i in range(3000, 0, -1)]
    assert ledger.commit(rows) == {"prompts": 1}
    assert texts(ledger) == ["text 3000"]


def test_a_row_is_never_replaced_not_even_by_an_older_one(ledger: Ledger) -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    ledger.commit([prompt(1, created_at=at, text="committed first")])
    older = prompt(1, created_at=at - timedelta(days=1), text="made first")
    assert ledger.commit([older, prompt(2)]) == {"prompts": 1}
    assert texts(ledger) == ["committed first", "text 2"]


def test_nothing_to_commit_writes_nothing(ledger: Ledger) -> None:
    assert ledger.commit([]) == {}
    assert not ledger.root.ledger.exists()


def test_the_table_of_captions_follows_in_the_same_commit(ledger: Ledger) -> None:
    ledger.commit(clip_rows("c", "b"))
    [row] = ledger.select(CaptionRow, "captions")
    assert (row.batch, row.clip_path, row.window_id, row.status) == ("b", "c.mp4", "window of c", "not_captioned")
    assert ledger.verify() == []


BAD_ROWS: dict[str, tuple[Record, str]] = {
    "a NULL where there may be none": (prompt(1, text=None), "missing values ['text']"),
    "a text for a number": (prompt(1, version="one"), "incoming_rows"),
    "a number too large": (prompt(1, version=2**40), "incoming_rows"),
    "half a character": (prompt(1, text="\ud800"), "incoming_rows"),
    "a text for a time": (prompt(1, created_at="today"), "incoming_rows"),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_a_row_that_does_not_fit_is_refused_and_leaves_nothing(ledger: Ledger, case: str) -> None:
    row, message = BAD_ROWS[case]
    with pytest.raises(ValueError) as refusal:
        ledger.commit([row_of(RecipeRow), prompt(7), row])
    assert message in str(refusal.value)
    assert ledger.query("SELECT * FROM prompts") == ledger.query("SELECT * FROM recipes") == []


def test_a_row_without_a_column_or_with_another_is_no_row() -> None:
    with pytest.raises(TypeError, match="missing"):
        PromptRow(prompt_sha256="p")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="colour"):
        replace(prompt(1), colour="red")  # type: ignore[call-arg]


def test_a_value_that_only_the_database_refuses_leaves_the_ledger_usable(ledger: Ledger) -> None:
    bad = row_of(RecipeRow, recipe_id="r1", params="not JSON")
    with pytest.raises(LedgerError, match="Malformed JSON"):
        ledger.commit([prompt(1), bad])
    assert ledger.query("SELECT * FROM prompts") == []
    assert ledger.commit([prompt(1)]) == {"prompts": 1}


def test_json_is_stored_in_one_spelling(ledger: Ledger) -> None:
    evidence = {"b": 1, "a": {"y": "ü \"' \\ \n", "x": [1.5, None, True]}}
    ledger.commit([row_of(DecisionRow, decision_id="d", evidence=as_json(evidence))])
    (stored,) = ledger.query("SELECT evidence, evidence->'a'->>'y' AS y FROM retention_decisions")
    assert stored["evidence"] == '{"a": {"x": [1.5, null, true], "y": "ü \\"\' \\\\ \\n"}, "b": 1}'
    assert json.loads(str(stored["evidence"])) == evidence
    assert stored["y"] == evidence["a"]["y"]  # type: ignore[index]


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_json_has_no_word_for_these_numbers(number: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        as_json({"x": number})


@pytest.mark.parametrize(
    "moment",
    [
        datetime(2026, 7, 1, 12, 0, 0, 123456, tzinfo=UTC),
        datetime(2026, 7, 1, 14, 0, 0, 123456, tzinfo=timezone(timedelta(hours=2))),
    ],
)
def test_times_are_kept_in_utc_to_the_microsecond(
    ledger: Ledger, moment: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    ledger.commit([prompt(1, created_at=moment)])
    (row,) = ledger.query("SELECT created_at, CAST(created_at AS VARCHAR) AS text FROM prompts")
    stored = row["created_at"]
    assert isinstance(stored, datetime)
    assert stored == datetime(2026, 7, 1, 12, 0, 0, 123456, tzinfo=UTC)
    assert stored.utcoffset() == timedelta(0)
    assert row["text"] == "2026-07-01 12:00:00.123456+00"


def test_texts_come_back_as_they_were(ledger: Ledger) -> None:
    odd = ["", "a\x00b", "line\nline\r\n", "ünïcödé 🎬", "'; DROP TABLE prompts; --", "\\n \\x41"]
    ledger.commit([prompt(i, text=text) for i, text in enumerate(odd)])
    assert texts(ledger) == sorted(odd)


def test_lists_and_missing_values_come_back_as_they_were(ledger: Ledger) -> None:
    row = row_of(
        WindowRow, window_id="w", frame_indices=[0, 5, 2**31 - 1], frame_times_s=[0.0, 0.1],
        frame_hashes=[0, 2**64 - 1], luma_low=[0, 255],
    )  # fmt: skip
    ledger.commit([row])
    assert ledger.select(WindowRow, "windows") == [row]


def test_every_row_comes_back_as_it_was(ledger: Ledger) -> None:
    for table in TABLES.values():
        if table.record is not CaptionRow:
            row = row_of(table.record)
            assert ledger.commit([row]) == {table.name: 1}
            assert ledger.select(table.record, table.name) == [row]


def test_batches_with_odd_names_keep_to_themselves(ledger: Ledger) -> None:
    for number, batch in enumerate(ODD_BATCHES):
        upload = row_of(UploadRow, batch=batch, path=f"{batch}.mp4", clip_id=f"c{number}", status="ok")
        assert ledger.commit([*clip_rows(f"c{number}", "all"), upload])["uploads"] == 2
    shown = ledger.select(CaptionRow, "captions WHERE batch <> 'all'")
    assert {row.batch: (row.clip_path, row.clip_id) for row in shown} == {
        batch: (f"{batch}.mp4", f"c{number}") for number, batch in enumerate(ODD_BATCHES)
    }
    assert ledger.verify() == []


@pytest.mark.parametrize("name", ["[1]", "*", "a b'\"", "ünï", "[!a]"])
def test_a_root_folder_with_an_odd_name_reads_no_other_root(tmp_path: Path, name: str) -> None:
    for sibling in ("1", "zz", "b"):
        Ledger(RootFolder.at(tmp_path / sibling)).commit([prompt(99)])
    ledger = Ledger(RootFolder.at(tmp_path / name))
    assert ledger.commit([prompt(1)]) == {"prompts": 1}
    assert texts(ledger) == ["text 1"]


def test_verify_names_what_the_history_contradicts(ledger: Ledger) -> None:
    for clip in ("c1", "c2", "c3"):
        ledger.commit(clip_rows(clip, "b"))
    with ledger.session(writes=True) as session:
        session.rows("UPDATE captions SET status = 'captioned', caption = 'a dog' WHERE clip_id = 'c1'")
        session.rows("DELETE FROM captions WHERE clip_id = 'c2'")
        session.rows("INSERT INTO captions SELECT * FROM captions WHERE clip_id = 'c3'")
        session.rows("UPDATE captions SET window_id = 'w' WHERE clip_id = 'c3'")
        session.rows("INSERT INTO clips SELECT * FROM clips WHERE clip_id = 'c3'")
    assert ledger.verify() == [
        "clips: the key c3, - is there more than once",
        "captions: the key b, w is there more than once",
        "captions: the row of w in 'b' has no window in the history",
        "captions: window of c1 in 'b': status is 'captioned' and should be 'not_captioned'; caption is 'a dog' and "
        "should be None",
        "captions: the row of window of c2 in 'b' is missing",
        "captions: the row of window of c3 in 'b' is missing",
    ]


READS = [
    "SELECT 1 AS x",
    "-- a comment\nSELECT 1 AS x;",
    "WITH a AS (SELECT 1 AS x) FROM a",
    "FROM prompts",
    "DESCRIBE prompts",
    "SHOW TABLES",
    "SUMMARIZE prompts",
    "EXPLAIN SELECT 1",
    "VALUES (1)",
]
WRITES = [
    "INSERT INTO prompts SELECT * FROM prompts",
    "DELETE FROM prompts",
    "UPDATE prompts SET text = ''",
    "DROP TABLE prompts",
    "DROP VIEW live_uploads",
    "CREATE TABLE x AS SELECT 1",
    "INSERT INTO prompts SELECT * FROM prompts RETURNING *",
    "COMMIT; DELETE FROM prompts",
    "ROLLBACK; DROP TABLE prompts; SELECT 1",
    "SELECT 1; DELETE FROM prompts",
    "BEGIN; DELETE FROM prompts; COMMIT",
    "EXPLAIN ANALYZE DELETE FROM prompts",
    "COPY prompts TO '{path}'",
    "ATTACH '{path}' AS other",
    "CHECKPOINT",
    "",
]


def test_query_reads(ledger: Ledger) -> None:
    ledger.commit([prompt(1)])
    for sql in READS:
        assert ledger.query(sql), sql


def test_query_refuses_to_write(ledger: Ledger, tmp_path: Path) -> None:
    ledger.commit([prompt(1)])
    before = everything(ledger)
    for sql in WRITES:
        with pytest.raises(LedgerError):
            ledger.query(sql.format(path=tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    assert everything(ledger) == before


def test_query_takes_values_apart_from_the_statement(ledger: Ledger) -> None:
    assert ledger.query("SELECT $x AS x, $y AS y", x="' OR 1=1", y=None) == [{"x": "' OR 1=1", "y": None}]


def test_a_question_that_cannot_be_answered_is_no_fault_of_the_disk(ledger: Ledger) -> None:
    for sql in ("SELECT nonsense", "SELEC 1", "SELECT * FROM 'no such file.csv'"):
        with pytest.raises(LedgerError) as refusal:
            ledger.query(sql)
        assert not isinstance(refusal.value, OSError)


def test_columns_with_one_name_are_numbered(ledger: Ledger) -> None:
    assert ledger.query("SELECT 1 AS x, 2 AS x, 3 AS x") == [{"x": 1, "x_1": 2, "x_2": 3}]


def test_questions_of_one_session_see_one_state(ledger: Ledger) -> None:
    ledger.commit([prompt(1)])
    with ledger.session() as session:
        assert session.select(PromptRow, "prompts") == [prompt(1)]
        assert session.rows("SELECT text FROM prompts WHERE prompt_sha256 = $p", p="p1") == [("text 1",)]
        session.put_names("text", ["text 1", "text 1", "other"])
        assert session.rows("SELECT count(*) FROM prompts WHERE text IN (SELECT text FROM text)") == [(1,)]


def test_a_session_that_only_reads_cannot_write(ledger: Ledger) -> None:
    ledger.commit([prompt(1)])
    with pytest.raises(LedgerError, match="read-only"), ledger.session() as session:
        session.rows("DELETE FROM prompts")
    assert texts(ledger) == ["text 1"]
