"""A disk that takes no more: the commit says so, nothing is torn, and the same commit later completes it.

A limit on the size of files stands for the disk, since it needs no rights: writes beyond it fail as they do there.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from caption_assets.ledger.database import Ledger, LedgerError, LedgerNotWritten

from .dying_commit import WINDOWS, rows
from .story import derived_faults, everything, row_of

CHECKOUT = Path(__file__).parents[2]
COMMITS = """
import resource, sys
from caption_assets.ledger.database import Ledger, LedgerNotWritten
from caption_assets.root import RootFolder
from tests.ledger.dying_commit import rows
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
ledger = Ledger(RootFolder.at(sys.argv[1]))
try:
    ledger.commit("full", "b", rows())
except LedgerNotWritten as error:
    print(error)
"""


@pytest.mark.parametrize("room", [100, 20_000, 200_000], ids=["no part", "parts, no database", "part of the database"])
def test_a_full_disk_is_said_and_nothing_is_torn(ledger: Ledger, room: int) -> None:
    earlier = [row_of("windows", window_id=f"earlier {i}", clip_id="c0", recipe_id="r") for i in range(100)]
    ledger.commit("earlier", "b", {"windows": earlier})
    assert ledger.database.stat().st_size > 200_000
    before = everything(ledger)
    command = [sys.executable, "-c", COMMITS, str(ledger.database.parents[1]), str(room)]
    child = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=60, check=False)
    assert child.returncode == 0, child.stderr
    assert child.stdout.startswith("rows of run full for 'b' were not committed: ")
    assert "Nothing that was committed before is lost: make room on the disk and run again" in child.stdout

    now = everything(ledger)
    assert [table for table in before if not set(before[table]) <= set(now[table])] == []
    assert list(ledger.database.parent.rglob("*.tmp")) == []
    again = ledger.commit("full", "b", rows())
    there = [len(ledger.query(f"SELECT 1 FROM {table} WHERE clip_id = 'c'")) for table in again]
    assert dict(zip(again, there, strict=True)) == {"clips": 1, "windows": WINDOWS, "window_sets": 1}
    assert derived_faults(ledger) == {}
    whole = everything(ledger)
    assert ledger.rebuild().unreadable == {}
    assert everything(ledger) == whole


def test_an_error_of_the_disk_is_both_a_ledgers_and_an_oss() -> None:
    assert issubclass(LedgerNotWritten, LedgerError)
    assert issubclass(LedgerNotWritten, OSError)
