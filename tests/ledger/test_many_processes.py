"""Several processes commit at once while another reads: nothing is lost, nothing is there twice."""

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from caption_assets.ledger.database import Ledger
from caption_assets.root import RootFolder

CHECKOUT = Path(__file__).parents[2]
PROCESSES, COMMITS = 8, 8


def test_processes_that_commit_at_once_lose_and_duplicate_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.ledger.committing", str(tmp_path)]
    ledger = Ledger(RootFolder.at(tmp_path))
    seen: set[object] = set()
    acknowledged: list[str] = []
    with ExitStack() as stack:
        processes = []
        for number in range(PROCESSES):
            process = subprocess.Popen(
                [*command, f"p{number}", str(COMMITS)], cwd=CHECKOUT, text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )  # fmt: skip
            stack.enter_context(process)
            stack.callback(process.kill)
            processes.append(process)
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        while any(process.poll() is None for process in processes):
            now = {row["window_id"] for row in ledger.query("SELECT window_id FROM captions")}
            assert seen <= now, "a row that was seen once never goes away"
            seen = now
        for process in processes:
            out, error = process.communicate(timeout=60)
            assert process.returncode == 0, error
            acknowledged += out.split()

    assert len(acknowledged) == len(set(acknowledged)) == PROCESSES * COMMITS
    shared = {f"shared-{number}" for number in range(COMMITS)}
    for table in ("uploads", "clips", "window_sets"):
        clips = [str(row["clip_id"]) for row in ledger.query(f"SELECT clip_id FROM {table}")]
        assert sorted(clips) == sorted({*acknowledged, *shared}), table
    assert ledger.query("SELECT count(*) AS n FROM captions") == [{"n": len(acknowledged) + len(shared)}]
    assert ledger.verify() == []
