"""A process killed at any point of a commit loses nothing that was acknowledged, and leaves nothing half or twice."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from caption_assets.ledger.database import Ledger
from caption_assets.root import RootFolder

from .dying_commit import WINDOWS, rows_of
from .story import everything

CHECKOUT = Path(__file__).parents[2]
KILLS = int(os.environ.get("LEDGER_KILLS", "12"))
"""Commits that are killed; a long search sets more."""

WHOLE = {
    "recipes": 3, "active_recipes": 2, "uploads": 1, "clips": 1, "window_sets": 1, "windows": WINDOWS,
    "caption_candidates": WINDOWS, "retention_decisions": WINDOWS,
}  # fmt: skip
"""The rows of a commit, per table."""


class Dying:
    """A process whose children commit and die."""

    def __init__(self, process: subprocess.Popen[str]):
        self._process = process

    def act(self, what: str, name: str, statements: int) -> str:
        """Have a child do something and die after so many statements (0: live). Return what became of it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(what, name, statements, file=self._process.stdin, flush=True)
        return self._process.stdout.readline().strip()


@contextmanager
def dying(root: Path) -> Iterator[Dying]:
    command = [sys.executable, "-m", "tests.ledger.dying_commit", str(root)]
    with subprocess.Popen(
        command, cwd=CHECKOUT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:  # fmt: skip
        try:
            yield Dying(process)
        finally:
            process.kill()


def statements_of_a_commit(process: Dying, name: str) -> int:
    """Commit, and return how many statements that took."""
    lived, _, count = process.act("commit", name, 0).partition(" ")
    assert lived == "lived"
    return int(count)


def test_commits_that_were_killed_are_whole_or_not_there_and_complete_when_repeated(tmp_path: Path) -> None:
    ledger = Ledger(RootFolder.at(tmp_path))
    with dying(tmp_path) as process:
        statements_of_a_commit(process, "first")
        count = statements_of_a_commit(process, "second")
        for number in range(KILLS):
            name = f"batch-{number}"
            before = everything(ledger)
            assert process.act("commit", name, 1 + number * (count - 1) // max(KILLS - 1, 1)) == "killed"
            assert ledger.verify() == []
            seen = everything(ledger)
            missing = ledger.commit(rows_of(name))
            if missing:
                assert seen == before, "nothing of it is there"
                assert missing == {table: n for table, n in WHOLE.items() if table != "recipes"}
            assert ledger.commit(rows_of(name)) == {}
            assert ledger.verify() == []
    assert ledger.query("SELECT count(*) AS n FROM captions WHERE is_current") == [{"n": WINDOWS * (KILLS + 2)}]


def test_a_ledger_whose_making_was_killed_is_made_by_the_next(tmp_path: Path) -> None:
    with dying(tmp_path) as process:
        count = statements_of_a_commit(process, "first")
    for statements in range(1, count, count // 6):
        root = tmp_path / f"{statements}"
        with dying(root) as process:
            assert process.act("commit", "b", statements) == "killed"
        assert Ledger(RootFolder.at(root)).commit(rows_of("b")) in (WHOLE, {})
        assert Ledger(RootFolder.at(root)).verify() == []


def test_a_commit_that_died_is_taken_up_by_the_next_commit_too(tmp_path: Path) -> None:
    ledger = Ledger(RootFolder.at(tmp_path))
    with dying(tmp_path) as process:
        statements_of_a_commit(process, "first")
        count = statements_of_a_commit(process, "second")
        assert process.act("commit", "third", count - 1) == "killed", "it was committed, and the file not closed"
    ledger.commit(rows_of("fourth"))
    assert ledger.query("SELECT DISTINCT batch FROM captions ORDER BY batch") == [
        {"batch": "first"}, {"batch": "fourth"}, {"batch": "second"}, {"batch": "third"}
    ]  # fmt: skip
