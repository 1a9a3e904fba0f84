"""The file of the ledger is held open during a transaction alone, and what another program does with it is named."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pytest
from filelock import FileLock

from caption_assets.ledger import duckdb_store
from caption_assets.ledger.database import Ledger
from caption_assets.ledger.schema import PromptRow
from caption_assets.ledger.store import LedgerBusy, LedgerError
from caption_assets.root import RootFolder

from .story import row_of

CHECKOUT = Path(__file__).parents[2]
HOLDS = """
import sys
import duckdb
with duckdb.connect(sys.argv[1], read_only=sys.argv[2] == "reads"):
    print("open", flush=True)
    sys.stdin.readline()
"""
"""A program that knows nothing of this package, a notebook say."""


def held(path: Path) -> list[str]:
    links = [Path(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")]  # noqa: PTH208
    return [str(link.readlink()) for link in links if link.is_symlink() and path.name in str(link.readlink())]


@contextmanager
def held_open(database: Path, how: str) -> Iterator[subprocess.Popen[str]]:
    """Have another program hold the file open during the body."""
    command = [sys.executable, "-c", HOLDS, str(database), how]
    with subprocess.Popen(command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        try:
            assert program.stdout is not None
            assert program.stdout.readline() == "open\n"
            yield program
        finally:
            program.kill()


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """A ledger with a prompt, in a folder with an odd name."""
    ledger = Ledger(RootFolder.at(tmp_path / "it's a [ledger]"))
    ledger.commit([row_of(PromptRow, prompt_sha256="p1")])
    return ledger


def database_of(ledger: Ledger) -> Path:
    return ledger.root.ledger / "ledger.duckdb"


def test_the_file_is_held_during_a_session_alone(ledger: Ledger) -> None:
    with ledger.session() as session:
        session.put_names("mine", ["a"])
        assert held(database_of(ledger))
    assert not held(database_of(ledger))
    assert ledger.query("SELECT 1 FROM information_schema.tables WHERE table_name = 'mine'") == []


def test_the_file_and_the_lock_are_free_after_a_failure(ledger: Ledger) -> None:
    with pytest.raises(LedgerError), ledger.session(writes=True) as session:
        session.rows("CREATE TABLE t AS SELECT 1 AS x")
        session.rows("SELECT nonsense")
    assert not held(database_of(ledger))
    with FileLock(ledger.root.ledger / "ledger.lock", timeout=0):
        pass
    assert ledger.query("SELECT count(*) AS n FROM prompts") == [{"n": 1}]
    with pytest.raises(LedgerError, match="t does not exist"):
        ledger.query("SELECT * FROM t")


def test_a_body_that_fails_undoes_what_it_wrote(ledger: Ledger) -> None:
    with pytest.raises(KeyError), ledger.session(writes=True) as session:
        session.rows("DELETE FROM prompts")
        raise KeyError
    assert ledger.query("SELECT count(*) AS n FROM prompts") == [{"n": 1}]


@pytest.mark.parametrize("how", ["reads", "writes"])
def test_another_program_that_holds_the_file_is_waited_for_and_then_named(
    ledger: Ledger, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(duckdb_store.WAIT_VARIABLE, "0.3")
    with held_open(database_of(ledger), how) as program:
        message = rf"is open in another program, .*python.* \(process {program.pid}\); close it there, or read a copy"
        with pytest.raises(LedgerBusy, match=message):
            ledger.commit([row_of(PromptRow, prompt_sha256="p2")])
    assert ledger.commit([row_of(PromptRow, prompt_sha256="p2")]) == {"prompts": 1}


def test_a_commit_goes_through_as_soon_as_the_other_program_lets_the_file_go(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits, sleep = threading.Event(), time.sleep

    def watched(seconds: float) -> None:
        waits.set()
        sleep(seconds)

    monkeypatch.setattr(time, "sleep", watched)
    committed: list[dict[str, int]] = []
    with held_open(database_of(ledger), "writes"):
        row = row_of(PromptRow, prompt_sha256="p2")
        thread = threading.Thread(target=lambda: committed.append(ledger.commit([row])))
        thread.start()
        assert waits.wait(timeout=60), "the commit found the file in use"
        assert committed == []
    thread.join(timeout=60)
    assert committed == [{"prompts": 1}]


def test_another_connection_of_this_process_is_named_too(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(duckdb_store.WAIT_VARIABLE, "0")
    with (
        duckdb.connect(str(database_of(ledger))),
        pytest.raises(LedgerBusy, match=rf"is open in another connection of this process \({os.getpid()}\)"),
    ):
        ledger.query("SELECT 1")
    assert ledger.query("SELECT 1 AS x") == [{"x": 1}]


def test_a_lock_that_is_never_freed_is_named(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duckdb_store, "LOCK_TIMEOUT_S", 0.05)
    with FileLock(ledger.root.ledger / "ledger.lock"), pytest.raises(LedgerBusy, match=r"ledger\.lock: locked for"):
        ledger.query("SELECT 1")


@pytest.mark.parametrize("garbage", [b"garbage", b"garbage" * 10_000])
def test_a_file_that_is_no_database_is_named_with_what_to_do(ledger: Ledger, garbage: bytes) -> None:
    database_of(ledger).write_bytes(garbage)
    with pytest.raises(LedgerError, match=r"ledger\.duckdb does not open: .*`caption-assets ledger restore DIR`"):
        ledger.query("SELECT 1")
    with pytest.raises(LedgerError, match="does not open"):
        ledger.commit([row_of(PromptRow, prompt_sha256="p2")])
    assert database_of(ledger).read_bytes() == garbage


def test_after_a_question_that_had_to_spill_another_ledger_can_be_opened(ledger: Ledger, tmp_path: Path) -> None:
    with ledger.session() as session:
        session.rows("SET memory_limit = '30MB'")
        session.rows("CREATE TEMP TABLE t AS SELECT hash(range)::VARCHAR AS x FROM range(2000000)")
    for root in (ledger.root, RootFolder.at(tmp_path / "other")):
        assert Ledger(root).query("SELECT 1 AS x") == [{"x": 1}]


def test_a_forked_process_opens_the_file_for_itself(ledger: Ledger) -> None:
    program = """
import os, sys
from caption_assets.ledger.database import Ledger
from caption_assets.root import RootFolder
ledger = Ledger(RootFolder.at(sys.argv[1]))
ledger.query("SELECT 1")
child = os.fork()
if child:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
os._exit(0 if ledger.query("SELECT prompt_sha256 AS p FROM prompts") == [{"p": "p1"}] else 1)
"""
    command = [sys.executable, "-c", program, str(ledger.root.path)]
    assert subprocess.run(command, cwd=CHECKOUT, timeout=60, check=False).returncode == 0


def test_threads_take_turns(ledger: Ledger) -> None:
    def commit(number: int) -> None:
        for index in range(5):
            ledger.commit([row_of(PromptRow, prompt_sha256=f"p-{number}-{index}")])

    threads = [threading.Thread(target=commit, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert ledger.query("SELECT count(*) AS n FROM prompts") == [{"n": 21}]
