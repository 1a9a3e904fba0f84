"""The DuckDB that a process keeps: it holds no file between uses, and is given up when it cannot be used again."""

import os
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
from caption_assets.ledger.connection import attached

from caption_assets.ledger import connection as connection_module

CHECKOUT = Path(__file__).parents[2]


def held(path: Path) -> list[str]:
    links = [Path(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")]  # noqa: PTH208
    return [str(link.readlink()) for link in links if link.is_symlink() and path.name in str(link.readlink())]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "it's a [ledger].duckdb"


def test_the_file_is_held_during_the_body_alone(path: Path) -> None:
    with attached(path) as connection:
        connection.execute("CREATE TABLE t AS SELECT 1 AS x; CREATE TEMP TABLE mine AS SELECT 2 AS x")
        assert held(path)
    assert not held(path)
    with attached(path) as connection:
        assert connection.execute("FROM t").fetchall() == [(1,)]
        with pytest.raises(duckdb.CatalogException):
            connection.execute("FROM mine")


def test_the_file_is_free_after_a_failure_inside_a_transaction(path: Path) -> None:
    with pytest.raises(duckdb.BinderException), attached(path) as connection:
        connection.execute("BEGIN; CREATE TABLE t AS SELECT 1 AS x")
        connection.execute("SELECT nonsense")
    assert not held(path)
    with attached(path) as connection:
        assert connection.execute("SHOW TABLES").fetchall() == []


def test_after_a_question_that_had_to_spill_another_file_can_be_opened(path: Path, tmp_path: Path) -> None:
    with attached(path) as connection:
        connection.execute("SET memory_limit = '30MB'")
        connection.execute("CREATE TEMP TABLE t AS SELECT hash(range)::VARCHAR AS x FROM range(2000000)")
    for other in (path, tmp_path / "other.duckdb"):
        with attached(other) as connection:
            assert connection.execute("SELECT 1").fetchall() == [(1,)]


def test_a_forked_process_makes_its_own(path: Path) -> None:
    program = """
import os, sys
from pathlib import Path
from caption_assets.ledger.connection import attached
path = Path(sys.argv[1])
with attached(path) as connection:
    connection.execute("CREATE TABLE t AS SELECT 1 AS x")
child = os.fork()
if child:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
with attached(path) as connection:
    os._exit(0 if connection.execute("SELECT sum(x) FROM t").fetchall() == [(1,)] else 1)
"""
    done = subprocess.run([sys.executable, "-c", program, str(path)], cwd=CHECKOUT, timeout=60, check=False)
    assert done.returncode == 0


def threads_of_this_process() -> int:
    return len(os.listdir("/proc/self/task"))  # noqa: PTH208


def test_other_threads_work_for_large_files_alone_and_are_gone_before_the_file_is(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with duckdb.connect() as fresh:
        [(usual,)] = fresh.execute("SELECT current_setting('threads')").fetchall()
    with attached(path) as connection:
        connection.execute("CREATE TABLE t AS SELECT range AS x FROM range(300000)")
        assert connection.execute("SELECT current_setting('threads')").fetchall() == [(1,)]
        alone = threads_of_this_process()
    monkeypatch.setattr(connection_module, "LARGE_BYTES", path.stat().st_size - 1)
    with attached(path) as connection:
        assert connection.execute("SELECT current_setting('threads')").fetchall() == [(usual,)]
        connection.execute("SELECT * FROM t JOIN t AS u USING (x)").fetchone()  # there is more to read
        assert threads_of_this_process() == alone + usual - 1
    assert threads_of_this_process() == alone
