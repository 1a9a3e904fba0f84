"""Connections to a ledger's file that cost a few milliseconds.

Making a DuckDB costs 20 to 30 ms, since it fills its catalog with thousands of functions; attaching a file to one that
is there costs four. So a process keeps one DuckDB, without any file, and attaches the ledger's file to it for as long
as the caller holds the ledger's lock. Detached, the file is closed: other processes may have it.

DuckDB's threads work for large files only, and are gone before a file is closed. A task counts as done before its
thread has taken down all that belongs to it (`ExecutorTask::~ExecutorTask` of DuckDB 1.5), and a file that is closed in
that moment is gone under the thread's feet. That is the likeliest reason why, once in thousands of runs, a process died
in a thread at the depth of DuckDB's. A small file is asked a tenth faster without them, for three quarters of the CPU.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

MEMORY_LIMIT = "900MB"
"""Of its buffers: a rebuild of ten million rows takes half as much again for what it reads and hashes."""
MAX_IDLE = 2

_CATALOG = "ledger"
_FORMAT = "STORAGE_VERSION 'v1.5.0'"
"""Of a new file: DuckDB 1.5 and 2 read it, and open it in a third of the time that the default takes."""

SMALL_BLOCKS, LARGE_BLOCKS = 16 << 10, 256 << 10
"""Every column of every table takes a block at least: with small ones a small ledger is a tenth of the size, and closed
in half the time. A large one is filled in half the time, and a third of the memory, with large ones."""

LARGE_BYTES = 64 << 20
"""A file, or the parts that one is made of, are large from here. With 900 MB two threads answer in half to three
quarters of the time of one."""

_guard = threading.Lock()
_idle: list[duckdb.DuckDBPyConnection] = []
_owner = 0
_inherited: list[duckdb.DuckDBPyConnection] = []
"""Those of the parent of a forked process: their threads are not here, so that they may neither be used nor closed."""


@contextmanager
def attached(path: Path, *, becomes_large: bool = False) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open the database at `path`; the body sees its tables. Keep others out meanwhile.

    Where there is none it is made; `becomes_large`: for many rows.

    Raises:
        duckdb.Error: it does not open.
    """
    keeper = _ready(path)
    try:
        block_bytes = LARGE_BLOCKS if becomes_large else SMALL_BLOCKS
        options = "" if path.exists() else f"({_FORMAT}, BLOCK_SIZE {block_bytes})"
        keeper.execute(f"ATTACH {quoted(str(path))} AS {_CATALOG} {options}")
        connection = keeper.cursor()  # its temporary tables go with it
        try:
            if becomes_large or path.stat().st_size > LARGE_BYTES:
                keeper.execute("RESET threads")
            connection.execute(f"USE {_CATALOG}")
            yield connection
        finally:
            keeper.execute("SET threads = 1")  # returns when the others have ended
            connection.close()
        keeper.execute(f"DETACH {_CATALOG}")
    except BaseException:
        keeper.close()  # whatever state it is in, the file is closed and the next call starts afresh
        raise
    _give_back(keeper)


def _ready(path: Path) -> duckdb.DuckDBPyConnection:
    """Return a DuckDB that spills beside `path`. One that has spilled elsewhere cannot be told to, and is given up."""
    while True:
        keeper = _take()
        try:
            keeper.execute(f"SET temp_directory = {quoted(f'{path}.tmp')}")
            return keeper
        except duckdb.NotImplementedException:
            keeper.close()


def _take() -> duckdb.DuckDBPyConnection:
    global _owner
    with _guard:
        if _owner != os.getpid():
            _inherited.extend(_idle)
            _idle.clear()
            _owner = os.getpid()
        if _idle:
            return _idle.pop()
    connection = duckdb.connect()
    connection.execute(f"SET memory_limit = '{MEMORY_LIMIT}'")
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET enable_progress_bar = false")
    connection.execute("SET threads = 1")
    # The file is closed after every commit, which moves the log into it: then the log need not be written first.
    connection.execute("SET checkpoint_threshold = '0B'")
    return connection


def _give_back(connection: duckdb.DuckDBPyConnection) -> None:
    with _guard:
        if len(_idle) < MAX_IDLE:
            _idle.append(connection)
            return
    connection.close()


def quoted(text: str) -> str:
    """Return `text` as a literal of SQL."""
    return "'" + text.replace("'", "''") + "'"
