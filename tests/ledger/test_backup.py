"""Whatever happens to the file of the ledger: a backup brings every row back."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from caption_assets.ledger import backup, migrations
from caption_assets.ledger.backup import restore, write_backup
from caption_assets.ledger.schema import HISTORY, TABLES, PreviewRow, Record
from caption_assets.ledger.store import LedgerError
from caption_assets.pipeline.stage_run import activate
from caption_assets.settings.recipes import caption_recipe, retention_recipe, split_recipe, window_recipe

from .story import MODEL, Story, everything, row_of, settings
from .test_crash import dying, statements_of_a_commit

A, B = settings(prompt_text="A", caption_num=2), settings(prompt_text="B")
ODD = "c [1]*"


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """A ledger with rows in every table."""
    story = Story(tmp_path_factory.mktemp("told") / "root")
    story.use(A, "b", ODD)
    with story.at_once():
        clips = [story.upload(f"clip{i}", "b", caption="a dog") for i in range(3)]
        story.upload("clip0", ODD)
        for clip in clips:
            story.cut(clip, 2, A)
    story.split(clips[0], [300], settings(split="stride"))
    story.caption(A)
    story.quarantine("bad.mp4")
    story.run = "run-2"
    story.use(B)
    story.caption(B, only=3)
    window = story.windows()[0]
    story.keep_original(window, "a dog")
    story.answer(story.candidates(window, B, ["error", "ok"], attempt=2))
    story.decide(B)
    story.override(story.all_candidates("status = 'ok'")[0])
    story.take_down("clip", clips[2])
    rest: list[Record] = [row_of(PreviewRow, window_id=window, uri="previews/b/x.webp", status="ok")]
    rest += [row_of(table.record) for name, table in HISTORY.items() if not story.count(name) and name != "previews"]
    story.commit(*rest)
    assert all(story.count(table) for table in TABLES)
    story.ledger.read(write_backup, story.root.path / "saved")
    return story


@pytest.fixture(scope="module")
def before(told: Story) -> dict[str, list[str]]:
    return everything(told.ledger)


@pytest.fixture
def copy(told: Story, tmp_path: Path) -> Story:
    shutil.copytree(told.root.path, tmp_path / "root")
    return Story(tmp_path / "root")


def saved(story: Story) -> Path:
    return story.root.path / "saved"


def database_of(story: Story) -> Path:
    return story.root.ledger / "ledger.duckdb"


def set_aside(story: Story) -> list[Path]:
    return sorted(story.root.ledger.glob("ledger.*.replaced.duckdb"))


def test_a_backup_says_what_is_in_it(copy: Story, before: dict[str, list[str]], tmp_path: Path) -> None:
    counts = copy.ledger.read(write_backup, tmp_path / "backup")
    assert counts == {table: len(before[table]) for table in HISTORY}
    about = json.loads((tmp_path / "backup" / backup.MANIFEST).read_text())
    assert (about["version"], about["rows"]) == (migrations.newest_version(), counts)
    assert sorted(path.name for path in (tmp_path / "backup").iterdir()) == sorted(
        [backup.MANIFEST, *(f"{table}.parquet" for table in HISTORY)]
    )


def test_a_backup_is_never_written_over_another(copy: Story) -> None:
    with pytest.raises(LedgerError, match="saved is there already; name a new folder"):
        copy.ledger.read(write_backup, saved(copy))


def test_a_backup_that_fails_leaves_nothing(copy: Story, tmp_path: Path) -> None:
    class FullDisk(Exception):
        pass

    def fails(*_: object) -> None:
        raise FullDisk

    with pytest.raises(FullDisk), copy.ledger.session() as session:
        session.write_parquet = fails  # type: ignore[method-assign,assignment]
        write_backup(session, tmp_path / "backup")
    assert [path.name for path in tmp_path.iterdir()] == ["root"]


@pytest.mark.parametrize("state", ["deleted", "untouched", "garbage", "empty", "written on since"])
def test_a_restore_gives_the_very_same_rows_in_every_table_and_view(
    copy: Story, before: dict[str, list[str]], state: str
) -> None:
    database = database_of(copy)
    if state == "deleted":
        database.unlink()
    elif state in ("garbage", "empty"):
        database.write_bytes(b"garbage" * 10_000 if state == "garbage" else b"")
        Path(f"{database}.wal").write_bytes(b"a log of another database")
    elif state == "written on since":
        copy.upload("another")
    last = database.read_bytes() if database.exists() else None
    assert restore(copy.root, saved(copy)) == []
    assert everything(copy.ledger) == before
    assert copy.ledger.verify() == []
    assert [path.read_bytes() for path in set_aside(copy)] == ([] if last is None else [last])
    assert not Path(f"{database}.wal").exists()


def test_what_was_set_aside_is_the_old_ledger_with_its_last_commit(copy: Story) -> None:
    with dying(copy.root.path) as process:
        statements_of_a_commit(process, "first")
        count = statements_of_a_commit(process, "second")
        assert process.act("commit", "third", count - 1) == "killed"
    restore(copy.root, saved(copy))
    assert copy.ledger.query("SELECT 1 FROM uploads WHERE batch = 'first'") == []
    [aside] = set_aside(copy)
    aside.replace(database_of(copy))
    assert copy.ledger.query("SELECT batch FROM uploads WHERE batch = 'third'") == [{"batch": "third"}]
    assert copy.ledger.verify() == []


def test_a_restore_that_was_killed_leaves_the_old_ledger_and_is_done_again(
    copy: Story, before: dict[str, list[str]]
) -> None:
    with dying(copy.root.path) as process:
        for statements in (3, 60, 150):
            assert process.act("restore", "saved", statements) == "killed"
            assert everything(copy.ledger) == before
        assert process.act("restore", "saved", 0).startswith("lived")
    assert everything(copy.ledger) == before
    assert list(copy.root.ledger.glob("ledger.restoring*")) == []


def test_a_folder_without_a_backup_is_refused_and_changes_nothing(
    copy: Story, before: dict[str, list[str]], tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(LedgerError, match="empty: no backup"):
        restore(copy.root, tmp_path / "empty")
    manifest = saved(copy) / backup.MANIFEST
    manifest.write_text(json.dumps({"version": migrations.newest_version() + 1}))
    with pytest.raises(LedgerError, match=r"a backup of schema version .*; update caption_assets"):
        restore(copy.root, saved(copy))
    assert everything(copy.ledger) == before
    assert set_aside(copy) == []


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


@pytest.mark.parametrize("harm", [torn_at_the_end, torn_at_the_start, emptied, broken_inside, of_another_kind, None])
def test_a_file_that_does_not_read_is_named_and_the_rest_is_brought_in(
    copy: Story, before: dict[str, list[str]], harm: Callable[[Path], None] | None
) -> None:
    file = saved(copy) / "caption_candidates.parquet"
    if harm is None:
        file.unlink()
    else:
        harm(file)
    [sentence] = restore(copy.root, saved(copy))
    assert sentence.startswith(f"{file}: left out, it does not read: ")
    after = everything(copy.ledger)
    assert after["caption_candidates"] == []
    assert {name: after[name] for name in HISTORY if name != "caption_candidates"} == {
        name: before[name] for name in HISTORY if name != "caption_candidates"
    }
    assert copy.ledger.verify() == []


def test_where_the_recipes_do_not_read_the_next_run_makes_them_current_again(
    copy: Story, before: dict[str, list[str]]
) -> None:
    emptied(saved(copy) / "recipes.parquet")
    assert len(restore(copy.root, saved(copy))) == 1
    assert copy.ledger.verify() == []
    recipes = [split_recipe(B), window_recipe(B), caption_recipe(B, MODEL), retention_recipe(B)]
    activate(copy.ledger, "b", recipes, "run", "run-3")
    assert len(copy.windows()) == sum("'b'" in row for row in before["captions"])
    assert {row.wanted_recipe_id for row in copy.rows()} == {caption_recipe(B, MODEL).recipe_id}


def test_a_file_of_an_older_version_lacks_columns_that_are_then_null(copy: Story) -> None:
    file = saved(copy) / "windows.parquet"
    with duckdb.connect() as connection:
        connection.execute(f"CREATE TABLE t AS SELECT * EXCLUDE (frame_hashes, color) FROM read_parquet('{file}')")
        connection.execute(f"COPY t TO '{file}' (FORMAT parquet)")
    windows = copy.count("windows")
    assert restore(copy.root, saved(copy)) == []
    assert copy.ledger.query("SELECT frame_hashes, color, count(*) AS n FROM windows GROUP BY ALL") == [
        {"frame_hashes": None, "color": None, "n": windows}
    ]


def test_of_rows_with_one_key_in_several_files_the_oldest_counts(copy: Story, tmp_path: Path) -> None:
    """Files as version 6 left them, whose processes did not see each other's rows."""
    parts = tmp_path / "parts"
    for name in HISTORY:
        (parts / name / "b").mkdir(parents=True)
        shutil.copy(saved(copy) / f"{name}.parquet", parts / name / "b" / "run-2.parquet")
    again = "SELECT * REPLACE (text || ' again' AS text, created_at {} INTERVAL 1 DAY AS created_at)"
    with duckdb.connect() as connection:
        for run, sign in (("run-1", "+"), ("run-3", "-")):
            half = f"SELECT * FROM '{saved(copy) / 'prompts.parquet'}' WHERE (text = 'A') = {run == 'run-3'}"
            target = parts / "prompts" / "b" / f"{run}.parquet"
            connection.execute(f"COPY ({again.format(sign)} FROM ({half})) TO '{target}' (FORMAT parquet)")
    texts = sorted(str(row["text"]) for row in copy.ledger.query("SELECT text FROM prompts"))
    assert "A" in texts
    assert restore(copy.root, parts) == []
    expected = sorted(f"{text} again" if text == "A" else text for text in texts)
    assert sorted(str(row["text"]) for row in copy.ledger.query("SELECT text FROM prompts")) == expected
