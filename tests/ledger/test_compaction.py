"""Small parts become few, and nothing else changes: not for a reader, not for a rebuild, not after a crash."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from caption_assets.ledger import compaction, parts
from caption_assets.ledger.database import Ledger
from caption_assets.ledger.schema import TABLES
from caption_assets.root import RootFolder

from .story import everything, row_of

CHECKOUT = Path(__file__).parents[2]


def parts_of(ledger: Ledger, table: str) -> list[Path]:
    return sorted((ledger.database.parent / "parts" / table).glob("*/*.parquet"))


@pytest.fixture
def many(ledger: Ledger) -> Ledger:
    """A ledger of three batches, one with an odd name, and ten parts of each of two tables."""
    for number in range(10):
        batch = ("a", "b [1]*?", "c's")[number % 3]
        windows = [
            row_of("windows", window_id=f"w{number}-{i}", clip_id=f"c{number}", frame_indices=[1, 2]) for i in range(3)
        ]
        sets = [row_of("window_sets", clip_id=f"c{number}", recipe_id="r", n_windows=3, status="ok")]
        ledger.commit(f"run {number}", batch, {"windows": windows, "window_sets": sets})
    return ledger


def test_one_part_is_left_and_a_rebuild_gives_the_same_rows(many: Ledger) -> None:
    before = everything(many)
    done = many.compact()
    assert (done["windows"].before, done["windows"].after) == (10, 1)
    assert len(parts_of(many, "windows")) == len(parts_of(many, "window_sets")) == 1
    assert everything(many) == before
    assert many.rebuild().unreadable == {}
    assert everything(many) == before
    assert {name: each.after for name, each in many.compact().items()} == {t: int(bool(before[t])) for t in TABLES}


def test_commits_go_on_afterwards_and_what_is_there_is_not_new(many: Ledger) -> None:
    many.compact()
    again = row_of("windows", window_id="w0-0", clip_id="c0")
    assert many.commit("late", "a", {"windows": [again, row_of("windows", window_id="w-new")]}) == {"windows": 1}
    before = everything(many)
    many.compact()
    many.rebuild()
    assert everything(many) == before


def test_few_parts_and_large_parts_are_left_alone(many: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    before = parts_of(many, "windows")
    many.compact(at_least=11)
    assert parts_of(many, "windows") == before
    monkeypatch.setattr(compaction, "SMALL_BYTES", 1)
    many.compact()
    assert parts_of(many, "windows") == before


def test_what_is_merged_at_once_is_bounded(many: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    before = everything(many)
    monkeypatch.setattr(compaction, "GROUP_PARTS", 4)
    assert many.compact()["windows"].after == 3
    many.rebuild()
    assert everything(many) == before


def test_a_part_that_does_not_read_is_named_and_stays(many: Ledger) -> None:
    torn, spoilt, *_ = parts_of(many, "windows")
    torn.write_bytes(torn.read_bytes()[:-9])
    content = spoilt.read_bytes()
    spoilt.write_bytes(content[:4] + b"\xff" * 200 + content[204:])
    done = many.compact()["windows"]
    assert set(done.unreadable) == {torn, spoilt}
    assert {torn, spoilt} < set(parts_of(many, "windows"))
    assert done.after == 3


def test_another_compaction_at_the_same_time_changes_nothing(many: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    before, merge, first = everything(many), compaction.merge, [True]

    def overtaken(*arguments):  # type: ignore[no-untyped-def]
        made = merge(*arguments)
        if first:
            first.clear()
            many.compact()
        return made

    monkeypatch.setattr(compaction, "merge", overtaken)
    many.compact()
    assert len(parts_of(many, "windows")) == 1
    many.rebuild()
    assert everything(many) == before
    assert list((many.database.parent / "parts").rglob("*.tmp")) == []


# Kills the process after the n-th of the statements that change the folder of parts.
DIES = """
import os, signal, sys
from pathlib import Path
from caption_assets.ledger.database import Ledger
from caption_assets.root import RootFolder
left = [int(sys.argv[2])]
def watched(function):
    def call(*args, **kwargs):
        result = function(*args, **kwargs)
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return call
from caption_assets.ledger import parts
parts.sync_file, parts.sync_folder = watched(parts.sync_file), watched(parts.sync_folder)
Path.rename, Path.unlink = watched(Path.rename), watched(Path.unlink)
Ledger(RootFolder.at(sys.argv[1])).compact()
"""


@pytest.mark.parametrize("statement", [1, 2, 3, 4, 7, 14, 16])
def test_a_compaction_that_is_killed_loses_nothing_and_the_next_ends_it(many: Ledger, statement: int) -> None:
    before = everything(many)
    command = [sys.executable, "-c", DIES, str(many.database.parents[1]), str(statement)]
    died = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=60, check=False)
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert everything(many) == before
    many.rebuild()
    assert everything(many) == before
    many.compact()
    assert len(parts_of(many, "windows")) == len(parts_of(many, "window_sets")) == 1
    many.rebuild()
    assert everything(many) == before


def test_readers_and_writers_go_on_during_a_compaction(many: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a part is merged the ledger is free; while parts change places what a reader sees is all there."""
    merge = compaction.merge

    def meanwhile(*arguments):  # type: ignore[no-untyped-def]
        other = Ledger(RootFolder.at(many.database.parents[1]))
        number = len(parts_of(other, "prompts"))
        other.commit(f"other {number}", "a", {"prompts": [row_of("prompts", prompt_sha256=f"p{number}")]})
        assert len(other.query("SELECT window_id FROM windows")) == 30
        return merge(*arguments)

    monkeypatch.setattr(compaction, "merge", meanwhile)
    monkeypatch.setattr("caption_assets.ledger.database.LOCK_TIMEOUT_S", 1.0)
    many.compact()
    before = everything(many)
    many.rebuild()
    assert everything(many) == before


def test_parts_are_deleted_a_few_at_a_time_and_others_read_and_rebuild_in_between(
    many: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, left = everything(many), []

    def meanwhile(_: float) -> None:
        other = Ledger(RootFolder.at(many.database.parents[1]))
        left.append(len(parts_of(other, "windows")))
        if left[-1] == 5:
            other.rebuild()
        assert len(other.query("SELECT window_id FROM windows")) == 30

    monkeypatch.setattr(
        "caption_assets.ledger.database.time", SimpleNamespace(monotonic=time.monotonic, sleep=meanwhile)
    )
    monkeypatch.setattr("caption_assets.ledger.database.DELETING_S", 0.0)
    assert many.compact()["windows"].unreadable == {}
    assert set(left) == set(range(1, 11)), "ten parts and the merged one, less one at a time"
    assert everything(many) == before


def test_a_part_that_takes_the_name_of_one_that_was_merged_meanwhile_is_left_alone(
    many: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    new: list[Path] = []

    def meanwhile(_: float) -> None:
        left = [path for path in parts_of(many, "windows") if path.parent.name != compaction.FOLDER]
        if new or not 0 < len(left) < 10:  # the first compaction is deleting them
            return
        new.append(left[0])  # first, since compacting sleeps too
        other = Ledger(RootFolder.at(many.database.parents[1]))
        other.compact()
        assert not left[0].exists()
        row = row_of("windows", window_id="another", clip_id="c0", recipe_id="r0")
        other.commit(left[0].stem, left[0].parent.name, {"windows": [row]})
        assert left[0].exists()

    monkeypatch.setattr(
        "caption_assets.ledger.database.time", SimpleNamespace(monotonic=time.monotonic, sleep=meanwhile)
    )
    monkeypatch.setattr("caption_assets.ledger.database.DELETING_S", 0.0)
    many.compact()
    assert new and new[0].exists()
    before = everything(many)
    many.rebuild()
    assert everything(many) == before
    assert many.query("SELECT clip_id FROM windows WHERE window_id = 'another'") == [{"clip_id": "c0"}]


def test_parts_that_another_compaction_deletes_meanwhile_are_none_that_do_not_read(
    many: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, torn, first = everything(many), parts.why_torn, [True]

    def overtaken(path: Path) -> str | None:
        if first:
            first.clear()
            Ledger(RootFolder.at(many.database.parents[1])).compact()
        return torn(path)

    monkeypatch.setattr(parts, "why_torn", overtaken)
    assert all(done.unreadable == {} for done in many.compact().values())
    assert len(parts_of(many, "windows")) == 1
    many.rebuild()
    assert everything(many) == before


def test_a_commit_that_died_is_brought_in_before_its_parts_are_deleted(many: Ledger) -> None:
    command = [sys.executable, "-m", "tests.ledger.dying_commit", str(many.database.parents[1]), "after all renames"]
    died = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=60, check=False)
    assert died.returncode == -signal.SIGKILL, died.stderr
    many.compact()
    assert os.listdir(many.database.parent / "pending") == []  # noqa: PTH208
    assert len(many.query("SELECT 1 FROM windows WHERE clip_id = 'c'")) == 4
    before = everything(many)
    many.rebuild()
    assert everything(many) == before
