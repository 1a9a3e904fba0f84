"""The database is an index: whatever happens to it, the parts bring every row back."""

import shutil
from pathlib import Path

import duckdb
import pytest

from caption_assets.ledger.database import Ledger
from caption_assets.ledger.schema import SCHEMA_VERSION, TABLES
from caption_assets.ledger.store import LedgerError

from .story import Story, everything, row_of, settings


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """A ledger with rows in every table."""
    story = Story(tmp_path_factory.mktemp("told") / "root")
    a, b = settings(prompt_text="A", caption_num=2), settings(prompt_text="B")
    story.use(a, "b", "c [1]*")
    with story.at_once():
        clips = [story.upload(f"clip{i}", "b", caption="a dog") for i in range(3)]
        story.upload("clip0", "c [1]*")
        for clip in clips:
            story.cut(clip, 2, a)
    story.split(clips[0], [300], settings(split="stride"))
    story.caption(a)
    story.quarantine("bad.mp4")
    story.run = "run-2"
    story.use(b)
    story.caption(b, only=3)
    window = story.windows()[0]
    story.keep_original(window, "a dog")
    story.answer(story.candidates(window, b, ["error", "ok"], attempt=2))
    story.decide(b)
    story.override(story.ledger.query("SELECT * FROM caption_candidates WHERE status = 'ok'")[0])
    story.take_down("clip", clips[2])
    rest = (
        "runs", "window_duplicates", "enhanced_captions", "drift_checks", "judgements", "samples", "previews",
        "reproductions", "clip_recipes",
    )  # fmt: skip
    story.ledger.commit(
        "run-2",
        "b",
        {table: [row_of(table, window_id=window) if table == "previews" else row_of(table)] for table in rest},
    )
    assert all(story.count(table) for table in TABLES)
    return story


@pytest.fixture
def copy(told: Story, tmp_path: Path) -> Story:
    shutil.copytree(told.root.path, tmp_path / "root")
    return Story(tmp_path / "root")


@pytest.fixture(scope="module")
def before(told: Story) -> dict[str, list[str]]:
    return everything(told.ledger)


def test_a_rebuild_gives_the_very_same_rows_in_every_table_and_view(copy: Story, before: dict[str, list[str]]) -> None:
    rebuilt = copy.ledger.rebuild()
    assert everything(copy.ledger) == before
    assert rebuilt.unreadable == {}
    assert rebuilt.rows == {table: len(before[table]) for table in TABLES}


@pytest.mark.parametrize("damage", ["deleted", "deleted with its log left behind"])
def test_a_database_that_is_gone_is_made_again(copy: Story, before: dict[str, list[str]], damage: str) -> None:
    database = copy.ledger.database
    database.unlink()
    if "log" in damage:
        Path(f"{database}.wal").write_bytes(b"a log of another database")
    assert everything(copy.ledger) == before


def set_version(database: Path, version: int) -> None:
    with duckdb.connect(str(database)) as connection:
        connection.execute(f"UPDATE ledger_schema SET version = {version}")
        connection.execute("DROP VIEW captions")
        connection.execute("DELETE FROM prompts")


def test_a_database_of_an_older_schema_is_made_again(copy: Story, before: dict[str, list[str]]) -> None:
    set_version(copy.ledger.database, SCHEMA_VERSION - 1)
    with duckdb.connect(str(copy.ledger.database)) as connection:
        connection.execute("ALTER TABLE windows DROP COLUMN window_id_md5")  # version 5 had none
    assert everything(copy.ledger) == before


def test_a_database_of_a_newer_schema_is_left_alone_and_named(copy: Story) -> None:
    set_version(copy.ledger.database, SCHEMA_VERSION + 1)
    content = copy.ledger.database.read_bytes()
    with pytest.raises(LedgerError, match=rf"schema version {SCHEMA_VERSION + 1}, .* update caption_assets"):
        copy.count("prompts")
    assert copy.ledger.database.read_bytes() == content


@pytest.mark.parametrize("garbage", [b"", b"garbage", b"garbage" * 10_000])
def test_a_garbage_database_is_named_with_what_to_do_and_that_helps(
    copy: Story, before: dict[str, list[str]], garbage: bytes
) -> None:
    copy.ledger.database.write_bytes(garbage)
    with pytest.raises(LedgerError, match=r"ledger\.duckdb does not open .*caption-assets ledger rebuild"):
        copy.count("prompts")
    with pytest.raises(LedgerError):
        copy.upload("another")
    copy.ledger.rebuild()
    assert everything(copy.ledger) == before


def a_part(story: Story, table: str) -> Path:
    return sorted((story.root.ledger / "parts" / table).rglob("*.parquet"))[0]


def torn_at_the_end(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def torn_at_the_start(path: Path) -> None:
    path.write_bytes(b"\0" * 10 + path.read_bytes()[10:])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def broken_inside(path: Path) -> None:
    """Keep both ends, which look whole, and spoil the footer before the last eight bytes."""
    content = path.read_bytes()
    path.write_bytes(content[:-60] + b"\xff" * 52 + content[-8:])


def of_another_kind(path: Path) -> None:
    with duckdb.connect() as connection:
        connection.execute(f"COPY (SELECT 1 AS x) TO '{path}' (FORMAT parquet)")


@pytest.mark.parametrize("harm", [torn_at_the_end, torn_at_the_start, emptied, broken_inside, of_another_kind])
def test_a_torn_part_is_named_and_the_rest_is_brought_in(
    copy: Story, before: dict[str, list[str]], harm: object
) -> None:
    part = a_part(copy, "caption_candidates")
    lost = duckdb.sql(f"SELECT count(*) FROM read_parquet('{part}')").fetchall()[0][0]
    assert 0 < lost < len(before["caption_candidates"])
    harm(part)  # type: ignore[operator]
    rebuilt = copy.ledger.rebuild()
    assert list(rebuilt.unreadable) == [copy.root.relative(part)]
    assert all(rebuilt.unreadable.values())
    assert rebuilt.rows["caption_candidates"] == len(before["caption_candidates"]) - lost
    assert {t: n for t, n in rebuilt.rows.items() if t != "caption_candidates"} == {
        t: len(before[t]) for t in TABLES if t != "caption_candidates"
    }
    assert copy.count("caption_candidates") == len(before["caption_candidates"]) - lost


def test_a_rebuild_that_was_cut_off_leaves_the_old_database_in_use(copy: Story, before: dict[str, list[str]]) -> None:
    leftover = copy.ledger.database.with_suffix(".rebuilding")
    leftover.write_bytes(b"half a database")
    Path(f"{leftover}.wal").write_bytes(b"and its log")
    assert everything(copy.ledger) == before
    copy.ledger.rebuild()
    assert everything(copy.ledger) == before
    assert not leftover.exists()


def test_a_rebuild_never_leaves_a_database_without_its_log(copy: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database whose log is gone lacks what was committed last, opens all the same, and nobody would notice."""
    database = copy.ledger.database
    log = Path(f"{database}.wal")
    log.write_bytes(b"commits of a process that was killed")
    unlink = Path.unlink

    def watched(path: Path, missing_ok: bool = False) -> None:
        if path == log:
            assert not database.exists()
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", watched)
    copy.ledger.rebuild()
    assert database.exists()
    assert not log.exists()


def test_temporary_files_that_were_left_behind_are_ignored(copy: Story, before: dict[str, list[str]]) -> None:
    folder = a_part(copy, "prompts").parent
    (folder / ".0123.tmp").write_bytes(b"half a part")
    shutil.copy(a_part(copy, "prompts"), folder / ".4567.tmp")
    (copy.root.ledger / "pending").mkdir(exist_ok=True)
    (copy.root.ledger / "pending" / "run.tmp").write_text("[[")
    assert everything(copy.ledger) == before
    assert copy.ledger.rebuild().unreadable == {}
    assert everything(copy.ledger) == before


def test_a_part_of_an_older_schema_lacks_columns_that_are_then_null(copy: Story) -> None:
    part = a_part(copy, "enhanced_captions")
    with duckdb.connect() as connection:
        connection.execute(f"CREATE TABLE t AS SELECT * EXCLUDE (latency_ms, error) FROM read_parquet('{part}')")
        connection.execute("UPDATE t SET enhanced_id = 'e-old'")
        connection.execute(f"COPY t TO '{part.with_name('older.parquet')}' (FORMAT parquet)")
    assert copy.ledger.rebuild().rows["enhanced_captions"] == 2
    rows = copy.ledger.query("SELECT latency_ms FROM enhanced_captions WHERE enhanced_id = 'e-old'")
    assert rows == [{"latency_ms": None}]


@pytest.mark.parametrize("content", ["", "{", "[[1]]", '[["nonsense", "x"]]'])
def test_a_note_of_a_commit_that_cannot_be_read_is_named_with_what_to_do_and_that_helps(
    copy: Story, before: dict[str, list[str]], content: str
) -> None:
    pending = copy.root.ledger / "pending"
    pending.mkdir(exist_ok=True)
    (pending / "run-9.json").write_text(content)
    if content == '[["nonsense", "x"]]':
        (copy.root.path / "x").write_bytes(b"")
    with pytest.raises(LedgerError, match=r"run-9\.json: .*caption-assets ledger rebuild"):
        copy.count("prompts")
    copy.ledger.rebuild()
    assert everything(copy.ledger) == before


def test_the_ledger_of_a_new_root_is_empty(ledger: Ledger) -> None:
    assert ledger.rebuild().rows == dict.fromkeys(TABLES, 0)
    assert ledger.named("status", batch=None) == []
