"""What a commit takes, refuses and leaves behind."""

import json
import re
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from filelock import FileLock

from caption_assets.ledger import database, parts
from caption_assets.ledger.database import VIEWS, Ledger, LedgerError
from caption_assets.ledger.schema import TABLES
from caption_assets.root import RootFolder

from .story import everything, row_of

ODD_BATCHES = (
    "a b", "it's", 'say "x"', "[1]", "*", "?", "a%2Ab", "{a,b}", "ünïcödé 视频", "e\u0301", "🎬", "-x", "$HOME", "a;b",
    "%" * 200, "[!a]", "~", "#1", "a=b",
)  # fmt: skip


def prompt(number: int, **values: object) -> dict[str, object]:
    return row_of("prompts", prompt_sha256=f"p{number}", text=f"text {number}", **values)


def part_files(ledger: Ledger) -> list[str]:
    folder = ledger.database.parent / "parts"
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def texts(ledger: Ledger, table: str = "prompts") -> list[object]:
    return [row["text"] for row in ledger.query(f"SELECT text FROM {table} ORDER BY text")]


def test_the_same_rows_again_are_nothing_new(ledger: Ledger) -> None:
    rows = {"prompts": [prompt(1), prompt(2)]}
    assert ledger.commit("run", "b", rows) == {"prompts": 2}
    before = everything(ledger)
    assert ledger.commit("run", "b", rows) == {"prompts": 0}
    assert ledger.commit("another run", "another batch", rows) == {"prompts": 0}
    assert everything(ledger) == before
    assert part_files(ledger) == ["prompts/b/run.parquet"], "what is not new is not recorded twice"


def test_of_rows_with_one_key_in_a_commit_the_one_made_first_counts(ledger: Ledger) -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    rows = [
        {**prompt(1, created_at=at + timedelta(seconds=s)), "text": text}
        for s, text in ((2, "a, made late"), (1, "z, made early"))
    ]
    assert ledger.commit("run", "b", {"prompts": rows}) == {"prompts": 1}
    assert texts(ledger) == ["z, made early"]


def test_of_equally_old_rows_with_one_key_the_first_in_the_list_counts(ledger: Ledger) -> None:
    rows = [{**prompt(1), "text": f"text {i:04}"} for i in range(3000, 0, -1)]
    assert ledger.commit("run", "b", {"prompts": rows}) == {"prompts": 1}
    assert texts(ledger) == ["text 3000"]


def test_a_row_is_never_replaced_not_even_by_an_older_one(ledger: Ledger) -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    ledger.commit("run 1", "b", {"prompts": [{**prompt(1, created_at=at), "text": "committed first"}]})
    older = {**prompt(1, created_at=at - timedelta(days=1)), "text": "made first"}
    assert ledger.commit("run 2", "b", {"prompts": [older, prompt(2)]}) == {"prompts": 1}
    assert texts(ledger) == ["committed first", "text 2"]
    ledger.rebuild()
    assert texts(ledger) == ["committed first", "text 2"], "a rebuild chooses the same row"


def test_commits_of_one_run_each_have_a_part(ledger: Ledger) -> None:
    for number in range(3):
        ledger.commit("run", "b", {"prompts": [prompt(number)]})
    assert part_files(ledger) == [f"prompts/b/{name}.parquet" for name in ("run.1", "run.2", "run")]


def test_nothing_to_commit_writes_nothing(ledger: Ledger) -> None:
    assert ledger.commit("run", "b", {"prompts": [], "recipes": []}) == {}
    assert not ledger.database.parent.exists()


BAD_ROWS = {
    "an unknown column": ({**prompt(1), "colour": "red"}, "unknown columns ['colour']"),
    "a missing column": ({"prompt_sha256": "p"}, "missing values"),
    "a NULL where there may be none": ({**prompt(1), "text": None}, "missing values ['text']"),
    "a text for a number": ({**prompt(1), "version": "one"}, "prompts"),
    "a number too large": ({**prompt(1), "version": 2**40}, "prompts"),
    "half a character": ({**prompt(1), "text": "\ud800"}, "prompts"),
    "a text for a time": ({**prompt(1), "created_at": "today"}, "prompts"),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_a_row_that_does_not_fit_is_refused_and_leaves_nothing(ledger: Ledger, case: str) -> None:
    row, message = BAD_ROWS[case]
    with pytest.raises(ValueError) as refusal:
        ledger.commit("run", "b", {"recipes": [row_of("recipes")], "prompts": [prompt(7), row]})
    assert message in str(refusal.value)
    assert part_files(ledger) == []
    assert ledger.query("SELECT * FROM prompts") == []


def test_a_value_that_only_the_database_refuses_leaves_the_ledger_usable(ledger: Ledger) -> None:
    bad = row_of("recipes", recipe_id="r1", params="not JSON")
    with pytest.raises(LedgerError, match="Malformed JSON"):
        ledger.commit("run", "b", {"prompts": [prompt(1)], "recipes": [bad]})
    assert part_files(ledger) == []
    assert ledger.query("SELECT * FROM prompts") == []
    assert ledger.commit("run", "b", {"prompts": [prompt(1)]}) == {"prompts": 1}
    assert ledger.rebuild().unreadable == {}


def test_an_unknown_table_is_refused(ledger: Ledger) -> None:
    with pytest.raises(ValueError):
        ledger.commit("run", "b", {"nonsense": [{}]})


def test_json_is_stored_in_one_spelling(ledger: Ledger) -> None:
    evidence = {"b": 1, "a": {"y": "ü \"' \\ \n", "x": [1.5, None, True]}}
    row = row_of("retention_decisions", decision_id="d", evidence=evidence)
    ledger.commit("run", "b", {"retention_decisions": [row]})
    (stored,) = ledger.query("SELECT evidence, evidence->'a'->>'y' AS y FROM retention_decisions")
    assert stored["evidence"] == '{"a": {"x": [1.5, null, true], "y": "ü \\"\' \\\\ \\n"}, "b": 1}'
    assert json.loads(str(stored["evidence"])) == evidence
    assert stored["y"] == evidence["a"]["y"]


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_json_has_no_word_for_these_numbers(ledger: Ledger, number: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        ledger.commit("run", "b", {"retention_decisions": [row_of("retention_decisions", evidence={"x": number})]})


@pytest.mark.parametrize(
    "moment",
    [
        datetime(2026, 7, 1, 12, 0, 0, 123456, tzinfo=UTC),
        datetime(2026, 7, 1, 14, 0, 0, 123456, tzinfo=timezone(timedelta(hours=2))),
        datetime(2026, 7, 1, 12, 0, 0, 123456),
    ],
)
def test_times_are_kept_in_utc_to_the_microsecond(
    ledger: Ledger, moment: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    ledger.commit("run", "b", {"prompts": [prompt(1, created_at=moment)]})
    (row,) = ledger.query("SELECT created_at, created_at::VARCHAR AS text FROM prompts")
    stored = row["created_at"]
    assert isinstance(stored, datetime)
    assert stored == datetime(2026, 7, 1, 12, 0, 0, 123456, tzinfo=UTC)
    assert stored.utcoffset() == timedelta(0)
    assert row["text"] == "2026-07-01 12:00:00.123456+00"


def test_texts_come_back_as_they_were(ledger: Ledger) -> None:
    odd = ["", "a\x00b", "line\nline\r\n", "ünïcödé 🎬", "'; DROP TABLE prompts; --", "\\n \\x41"]
    ledger.commit("run", "b", {"prompts": [{**prompt(i), "text": text} for i, text in enumerate(odd)]})
    assert texts(ledger) == sorted(odd)
    ledger.rebuild()
    assert texts(ledger) == sorted(odd)


def test_lists_and_missing_values_come_back_as_they_were(ledger: Ledger) -> None:
    row = row_of("windows", window_id="w", frame_indices=[0, 5, 2**31 - 1], frame_times_s=[0.0, 0.1], error=None)
    ledger.commit("run", "b", {"windows": [row]})
    (stored,) = ledger.query("SELECT frame_indices, frame_times_s, error FROM windows")
    assert stored == {"frame_indices": [0, 5, 2**31 - 1], "frame_times_s": [0.0, 0.1], "error": None}


def test_batches_with_odd_names_keep_to_themselves(ledger: Ledger) -> None:
    for number, batch in enumerate(ODD_BATCHES):
        row = row_of("uploads", batch=batch, path=f"{batch}.mp4", run_id="run")
        assert ledger.commit("run", batch, {"uploads": [row], "prompts": [prompt(number)]}) == {
            "uploads": 1,
            "prompts": 1,
        }
    before = everything(ledger)
    assert {row["batch"] for row in ledger.named("known_batches")} == set(ODD_BATCHES)
    rebuilt = ledger.rebuild()
    assert rebuilt.rows["uploads"] == rebuilt.rows["prompts"] == len(ODD_BATCHES)
    assert everything(ledger) == before


@pytest.mark.parametrize("name", ["[1]", "*", "a b'\"", "ünï", "[!a]"])
def test_a_root_folder_with_an_odd_name_reads_no_other_root(tmp_path: Path, name: str) -> None:
    for sibling in ("1", "zz", "b"):
        Ledger(RootFolder.at(tmp_path / sibling)).commit("run", "b", {"prompts": [prompt(99)]})
    ledger = Ledger(RootFolder.at(tmp_path / name))
    assert ledger.commit("run", "b", {"prompts": [prompt(1)]}) == {"prompts": 1}
    assert ledger.rebuild().rows["prompts"] == 1
    assert texts(ledger) == ["text 1"]


def test_what_says_done_is_renamed_last() -> None:
    order = parts.in_commit_order(TABLES)
    assert order.index("clips") < order.index("uploads")
    assert order.index("windows") < order.index("window_sets")
    assert order.index("recipes") < order.index("active_recipes")
    assert order.index("prompts") < order.index("active_recipes")
    assert order[-1] == "runs"
    assert sorted(order) == sorted(TABLES)


def test_the_lock_is_free_again_after_a_failure(ledger: Ledger) -> None:
    ledger.commit("run", "b", {"prompts": [prompt(1)]})
    with pytest.raises(LedgerError):
        ledger.query("SELECT nonsense")
    with pytest.raises(LedgerError):
        ledger.commit("run", "b", {"recipes": [row_of("recipes", params="not JSON")]})
    with FileLock(ledger.database.parent / "ledger.lock", timeout=0):
        pass
    assert texts(ledger) == ["text 1"]


def test_a_lock_that_is_never_freed_is_named(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("caption_assets.ledger.database.LOCK_TIMEOUT_S", 0.05)
    ledger.query("SELECT 1")
    with (
        FileLock(ledger.database.parent / "ledger.lock"),
        pytest.raises(LedgerError, match=r"ledger\.lock: locked for"),
    ):
        ledger.query("SELECT 1")


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
    "DROP VIEW captions",
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
    ledger.commit("run", "b", {"prompts": [prompt(1)]})
    for sql in READS:
        assert ledger.query(sql), sql


def test_query_refuses_to_write(ledger: Ledger, tmp_path: Path) -> None:
    ledger.commit("run", "b", {"prompts": [prompt(1)]})
    before = everything(ledger)
    for sql in WRITES:
        with pytest.raises(LedgerError):
            ledger.query(sql.format(path=tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    assert everything(ledger) == before


def test_query_takes_values_apart_from_the_statement(ledger: Ledger) -> None:
    assert ledger.query("SELECT $x AS x, $y AS y", x="' OR 1=1", y=None) == [{"x": "' OR 1=1", "y": None}]


def test_queries_together_open_the_file_once_and_see_one_state(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Path] = []
    attached = database.attached

    def counted(path: Path) -> object:
        opened.append(path)
        return attached(path)

    ledger.query("SELECT 1")
    monkeypatch.setattr(database, "attached", counted)
    with ledger.together():
        assert ledger.query("SELECT count(*) AS n FROM uploads") == [{"n": 0}]
        assert ledger.named("known_batches") == []
        with pytest.raises(LedgerError):
            ledger.query("SELECT nonsense")
        assert ledger.query("SELECT 1 AS x") == [{"x": 1}]
    assert opened == [ledger.database]
    ledger.query("SELECT 1")
    assert opened == [ledger.database] * 2


def test_every_named_statement_runs_on_an_empty_ledger(ledger: Ledger) -> None:
    folder = Path(parts.__file__).parent / "sql"
    others: dict[str, object] = {
        "batches": ["x"], "recipes": ["x"], "near": True, "alike": ["x"], "shapes": "[]", "own": "[]", "splits": True,
        "scenes": True, "size": 4, "threshold": 4, "stage": 1, "n": 1, "most_kept": 1,
    }  # fmt: skip
    for path in sorted(folder.glob("*.sql")):
        if path.stem in VIEWS:
            continue
        names = set(re.findall(r"\$(\w+)", path.read_text()))
        values: dict[str, object] = {name: others.get(name, "x") for name in names}
        assert ledger.named(path.stem, **values) == [], path.stem
