"""A disk that takes no more: the commit says so, nothing is torn, and the same commit later completes it.

A limit on the size of files stands for the disk, since it needs no rights: writes beyond it fail as they do there.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from caption_assets.ledger.database import Ledger
from caption_assets.ledger.schema import WindowRow
from caption_assets.ledger.store import LedgerError, LedgerNotWritten

from .dying_commit import rows_of
from .story import everything, row_of
from .test_crash import WHOLE

CHECKOUT = Path(__file__).parents[2]
COMMITS = """
import resource, sys
from caption_assets.ledger.database import Ledger
from caption_assets.ledger.store import LedgerNotWritten
from caption_assets.root import RootFolder
from tests.ledger.dying_commit import rows_of
ledger = Ledger(RootFolder.at(sys.argv[1]))
ledger.query("SELECT 1")
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
for name in ("first", "second"):
    try:
        ledger.commit(rows_of(name))
    except LedgerNotWritten as error:
        print(error)
"""


@pytest.mark.parametrize("room", ["nothing", "part of the log", "part of the database"])
def test_a_full_disk_is_said_and_nothing_is_torn(ledger: Ledger, room: str) -> None:
    earlier = [row_of(WindowRow, window_id=f"earlier {i}", clip_id="c0", recipe_id="r") for i in range(100)]
    ledger.commit(earlier)
    database = ledger.root.ledger / "ledger.duckdb"
    limit = {"nothing": 100, "part of the log": 2000, "part of the database": database.stat().st_size + 20_000}[room]
    before = everything(ledger)
    command = [sys.executable, "-c", COMMITS, str(ledger.root.path), str(limit)]
    child = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=120, check=False)
    assert child.returncode == 0, child.stderr
    print(child.stdout)
    for line in child.stdout.splitlines():
        assert line.startswith(f"{database}: ")
        assert line.endswith("Nothing that was committed before is lost: make room on the disk and run again")
    assert child.stdout

    assert ledger.verify() == []
    now = everything(ledger)
    assert [table for table in before if not set(before[table]) <= set(now[table])] == []
    for name in ("first", "second"):
        ledger.commit(rows_of(name))
        assert ledger.commit(rows_of(name)) == {}
        [row] = ledger.query("SELECT count(*) AS n FROM captions WHERE batch = $b", b=name)
        assert row["n"] == WHOLE["windows"]
    assert ledger.verify() == []


def test_an_error_of_the_disk_is_both_a_ledgers_and_an_oss() -> None:
    assert issubclass(LedgerNotWritten, LedgerError)
    assert issubclass(LedgerNotWritten, OSError)
