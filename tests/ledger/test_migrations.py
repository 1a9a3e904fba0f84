"""Ledgers of other versions: older ones come forward, once; newer ones are refused."""

import json
import logging
import tarfile
from dataclasses import asdict
from pathlib import Path

import pytest

from caption_assets.ledger import migrations
from caption_assets.ledger.backup import restore
from caption_assets.ledger.database import Ledger
from caption_assets.ledger.schema import CaptionRow, PromptRow
from caption_assets.ledger.store import LedgerError
from caption_assets.root import RootFolder

from .story import everything, row_of

HERE = Path(__file__).parent
NEXT = migrations.newest_version() + 1


def version_of(ledger: Ledger) -> object:
    return ledger.query("SELECT version FROM ledger_schema")[0]["version"]


def set_version(ledger: Ledger, version: int) -> None:
    with ledger.session(writes=True) as session:
        session.rows(f"UPDATE ledger_schema SET version = {version}")


def another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget which ledgers this process has brought forward."""
    monkeypatch.setattr(migrations, "_prepared", set())


@pytest.fixture
def older(ledger: Ledger) -> Ledger:
    """A ledger of the version that the next one comes after, with a row."""
    ledger.commit([row_of(PromptRow, prompt_sha256="p1")])
    return ledger


def test_a_new_ledger_has_the_newest_version(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrations, "MIGRATIONS", {**migrations.MIGRATIONS, NEXT: ("SELECT nonsense",)})
    assert version_of(ledger) == NEXT, "without going through the migrations"


def test_a_ledger_of_an_older_version_comes_forward_once(older: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = {
        NEXT: ("ALTER TABLE prompts ADD COLUMN language VARCHAR", "UPDATE prompts SET language = 'en'"),
        NEXT + 1: ("INSERT INTO prompts SELECT 'p2', name, version, text, run_id, created_at, language FROM prompts",),
    }
    another_process(monkeypatch)
    monkeypatch.setattr(migrations, "MIGRATIONS", {**migrations.MIGRATIONS, **steps})
    for _ in range(2):
        rows = older.query("SELECT prompt_sha256, language FROM prompts ORDER BY 1")
        assert rows == [{"prompt_sha256": "p1", "language": "en"}, {"prompt_sha256": "p2", "language": "en"}]
        assert version_of(older) == NEXT + 1
        another_process(monkeypatch)


def test_a_migration_that_fails_changes_nothing(older: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    before = everything(older)
    another_process(monkeypatch)
    with monkeypatch.context() as patched:
        patched.setattr(migrations, "MIGRATIONS", {NEXT: ("DELETE FROM prompts", "SELECT nonsense")})
        for _ in range(2):
            with pytest.raises(LedgerError, match="nonsense"):
                older.query("SELECT 1")
    assert everything(older) == before


def test_a_ledger_of_a_newer_version_is_left_alone_and_named(older: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    set_version(older, NEXT)
    another_process(monkeypatch)
    content = (older.root.ledger / "ledger.duckdb").read_bytes()
    message = rf"schema version {NEXT}, this program knows {NEXT - 1}; update caption_assets"
    with pytest.raises(LedgerError, match=message):
        older.query("SELECT 1")
    with pytest.raises(LedgerError, match=message):
        older.commit([row_of(PromptRow, prompt_sha256="p2")])
    assert (older.root.ledger / "ledger.duckdb").read_bytes() == content


def test_an_old_ledger_without_its_part_files_is_named(older: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    set_version(older, 6)
    another_process(monkeypatch)
    with pytest.raises(LedgerError, match=r"schema version 6, and its part files \(.*parts\) are gone"):
        older.query("SELECT 1")


# Version 6 kept its rows in part files. The root is one that its own code made: a batch that was captioned twice, with
# a person's choice; one that is split, enhanced and in part taken down; one that is taken down.


@pytest.fixture
def version_6(tmp_path: Path) -> RootFolder:
    with tarfile.open(HERE / "version_6_root.tar.gz") as archive:
        archive.extractall(tmp_path / "root", filter="data")
    return RootFolder.at(tmp_path / "root")


def check_captions(ledger: Ledger) -> None:
    """Compare with the caption table that version 6 exported."""
    expected = json.loads((HERE / "version_6_captions.json").read_text(encoding="utf-8"))
    rows = sorted(
        ledger.select(CaptionRow, "captions"), key=lambda row: (row.batch, row.clip_path, row.clip_start_frame)
    )
    actual = [asdict(row) for row in rows]
    assert [{name: row[name] for name in expected[0]} for row in actual] == expected
    assert {row["batch"] for row in expected} == {"other", "waves"}
    assert ledger.verify() == []


def test_a_root_of_version_6_is_read_once(
    version_6: RootFolder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = Ledger(version_6)
    check_captions(ledger)
    assert version_of(ledger) == migrations.newest_version()
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "reading the part files of an earlier version, once" in caplog.text
    assert (version_6.ledger / "parts.read" / "uploads").is_dir()
    assert not (version_6.ledger / "parts").exists()

    ledger.commit([row_of(PromptRow, prompt_sha256="p1")])
    before = everything(ledger)
    another_process(monkeypatch)
    assert everything(ledger) == before
    assert len(caplog.records) == 1


def test_restore_takes_the_parts_of_version_6(version_6: RootFolder, tmp_path: Path) -> None:
    ledger = Ledger(RootFolder.at(tmp_path / "another root"))
    ledger.commit([row_of(PromptRow, prompt_sha256="p1")])
    assert restore(ledger.root, version_6.ledger / "parts") == []
    check_captions(ledger)
    assert ledger.query("SELECT 1 FROM prompts WHERE prompt_sha256 = 'p1'") == []
    assert (version_6.ledger / "parts").is_dir()


def test_a_part_of_version_6_that_does_not_read_is_named_and_the_rest_is_brought_in(
    version_6: RootFolder, caplog: pytest.LogCaptureFixture
) -> None:
    part = next((version_6.ledger / "parts" / "enhanced_captions").glob("*/*.parquet"))
    part.write_bytes(part.read_bytes()[:-20])
    (part.parent / ".0123.tmp").write_bytes(b"what a killed run left")
    ledger = Ledger(version_6)
    assert len(ledger.select(CaptionRow, "captions")) == 4
    assert ledger.verify() == []
    assert f"{part}: left out, it does not read" in caplog.text
