"""Several processes commit at once while another reads: nothing is lost, nothing is there twice."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from caption_assets.ledger.database import Ledger
from caption_assets.root import RootFolder

from .story import everything

CHECKOUT = Path(__file__).parents[2]
SECONDS = 2


@pytest.mark.parametrize("n_processes", [4, 8])
def test_processes_that_commit_at_once_lose_and_duplicate_nothing(tmp_path: Path, n_processes: int) -> None:
    command = [sys.executable, "-m", "tests.ledger.committing", str(tmp_path)]
    processes = [
        subprocess.Popen(
            [*command, f"p{i}", str(SECONDS)], cwd=CHECKOUT, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for i in range(n_processes)
    ]  # fmt: skip
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()

    ledger = Ledger(RootFolder.at(tmp_path))
    seen: set[object] = set()
    reads = 0
    while any(process.poll() is None for process in processes):
        now = {row["window_id"] for row in ledger.query("SELECT window_id FROM windows")}
        assert seen <= now, "a row that was seen once never goes away"
        seen, reads = now, reads + 1
        time.sleep(0.02)

    acknowledged: list[str] = []
    for process in processes:
        out, error = process.communicate(timeout=30)
        assert process.returncode == 0, error
        acknowledged += out.split()
    assert reads >= 3
    assert len(acknowledged) >= n_processes

    present = [str(row["window_id"]) for row in ledger.query("SELECT window_id FROM windows")]
    assert len(present) == len(set(present))
    shared = {name for name in present if name.startswith("shared")}
    assert set(present) - shared == set(acknowledged)
    assert len(shared) == max(int(name.rpartition("-")[2]) for name in acknowledged) + 1
    sets = [row["clip_id"] for row in ledger.query("SELECT clip_id FROM window_sets")]
    assert sorted(map(str, sets)) == sorted(acknowledged)

    before = everything(ledger)
    assert ledger.rebuild().unreadable == {}
    assert everything(ledger) == before, "also which of the processes' equal rows is there"
    assert list((tmp_path / "ledger").rglob("*.tmp")) == []
    assert list((tmp_path / "ledger" / "pending").glob("*.json")) == []
