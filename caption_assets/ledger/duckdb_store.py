"""The ledger in a DuckDB file: one process at a time has it open, under a file lock, for one transaction.

DuckDB 2.0 loses acknowledged commits when processes open, commit and close a file in turn without such a lock. The file
is attached to an in-memory DuckDB that the thread keeps: that costs 2 ms, where opening it anew costs 13.
"""

import os
import re
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
from filelock import FileLock, Timeout

from caption_assets.ledger.schema import Table, polars_types
from caption_assets.ledger.store import LedgerBusy, LedgerError, LedgerNotWritten, RowT, Session

WAIT_VARIABLE = "CAPTION_ASSETS_LEDGER_WAIT_S"
WAIT_S = 60.0
"""How long another program may keep the file open before that is an error, unless the variable says otherwise."""

LOCK_TIMEOUT_S = 600.0
"""A transaction takes milliseconds, a restore of millions of rows a minute: a longer wait is a dead lock."""

POLL_S = 0.005
MEMORY_LIMIT = "900MB"
"""Of DuckDB's buffers; larger intermediate results spill to the temporary folder."""

SMALL_BLOCKS, LARGE_BLOCKS = 16 << 10, 256 << 10
"""Bytes. Each column of each table takes a block at least, so small ones make a small ledger ten times smaller, and
closed in half the time. With large ones a large ledger is filled in half the time and a third of the memory."""

_HOLDER = re.compile(r"Conflicting lock is held in (?P<program>.+?) \(PID (?P<pid>\d+)\)")
_HELD_HERE = "is already attached"
"""What DuckDB says where another connection of this process has the file open."""
_NOT_COMMITTED = "Failed to commit"
"""What it says where the log does not take a commit; under our lock there is no other reason."""
_kept = threading.local()


class DuckDBStore:
    """The database file `path`. block_bytes: of a file that is not there yet."""

    def __init__(self, path: Path, block_bytes: int = SMALL_BLOCKS):
        self.path = path
        self._block_bytes = block_bytes

    def exists(self) -> bool:
        """Tell whether the file is there."""
        return self.path.exists()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep every other process and thread off the file.

        Raises:
            LedgerBusy: another process of ours has held the lock for ten minutes.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path.with_name("ledger.lock"), timeout=LOCK_TIMEOUT_S, poll_interval=POLL_S)
        try:
            lock.acquire()
        except Timeout:
            raise LedgerBusy(f"{lock.lock_file}: locked for {LOCK_TIMEOUT_S:.0f} s by another process") from None
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def session(self, *, writes: bool) -> Iterator[Session]:
        """Run the body as one transaction, which is committed at its end, or undone by an exception.

        The caller is `alone`. writes: the body may change tables; temporary ones it may always make.

        Raises:
            LedgerBusy: another program keeps the file open.
            LedgerNotWritten: the disk is full or broken. The transaction was written whole or not at all.
            LedgerError: the file does not open, or a statement is wrong.
        """
        memory = _memory()
        try:
            self._attach(memory)
            connection = memory.cursor()
            connection.execute("USE ledger")
            connection.execute("BEGIN TRANSACTION" if writes else "BEGIN TRANSACTION READ ONLY")
            try:
                yield DuckDBSession(connection)
                connection.execute("COMMIT")
            finally:
                connection.close()
            memory.execute("DETACH ledger")
        except BaseException as fault:
            _forget()  # closes the file, whatever state it is in
            if isinstance(fault, duckdb.IOException | duckdb.FatalException) or _NOT_COMMITTED in str(fault):
                raise LedgerNotWritten(f"{self.path}: {fault}. Nothing that was committed before is lost: make room on "
                                       "the disk and run again") from fault  # fmt: skip
            if isinstance(fault, duckdb.Error):
                raise LedgerError(str(fault)) from fault
            raise

    def _attach(self, memory: duckdb.DuckDBPyConnection) -> None:
        """Open the file; wait while a program that does not know our lock has it open."""
        until = time.monotonic() + float(os.environ.get(WAIT_VARIABLE, WAIT_S))
        new = "" if self.path.exists() else f"(STORAGE_VERSION 'v1.5.0', BLOCK_SIZE {self._block_bytes})"
        while True:
            try:
                memory.execute(f"ATTACH {quoted(str(self.path))} AS ledger {new}")
                return
            except duckdb.Error as fault:
                holder = self._holder(str(fault))
                if holder is None:
                    raise LedgerError(
                        f"{self.path} does not open: {fault}. `caption-assets ledger restore DIR` makes it again from "
                        "a backup"
                    ) from fault
                if time.monotonic() > until:
                    raise LedgerBusy(f"{self.path} is open in {holder}; close it there, or read a copy") from fault
            time.sleep(0.1)

    @staticmethod
    def _holder(fault: str) -> str | None:
        """Return who has the file open, from what DuckDB says."""
        if holder := _HOLDER.search(fault):
            return f"another program, {holder['program']} (process {holder['pid']})"
        return f"another connection of this process ({os.getpid()})" if _HELD_HERE in fault else None


class DuckDBSession(Session):
    """One transaction on the file."""

    def __init__(self, connection: duckdb.DuckDBPyConnection):
        self._connection = connection

    def rows(self, sql: str, **parameters: object) -> list[tuple[Any, ...]]:
        """Return the rows of a statement."""
        return self._connection.execute(sql, parameters or None).fetchall()

    def dictionaries(self, sql: str, **parameters: object) -> list[dict[str, Any]]:
        """Return the rows of one reading statement by the names of its columns; a name that comes again is numbered."""
        try:
            kinds = [statement.type for statement in self._connection.extract_statements(sql)]
            if kinds not in ([duckdb.StatementType.SELECT], [duckdb.StatementType.EXPLAIN]):
                raise LedgerError(
                    "one reading statement is allowed, such as SELECT; commands and runs change the ledger"
                )
            cursor = self._connection.execute(sql, parameters or None)
            rows = cursor.fetchall()
        except duckdb.Error as fault:
            raise LedgerError(str(fault)) from fault
        names: list[str] = []
        for column in cursor.description or ():
            count = sum(name == column[0] or name.startswith(f"{column[0]}_") for name in names)
            names.append(f"{column[0]}_{count}" if column[0] in names else column[0])
        return [dict(zip(names, row, strict=True)) for row in rows]

    def select_few(self, record: type[RowT], table: str, condition: str, **parameters: object) -> list[RowT]:
        """Return the rows of a large table that a condition picks.

        DuckDB would read every column of the whole table. So it looks for the places of the rows first, by the columns
        of the condition alone.
        """
        places = f"SELECT rowid FROM {table} WHERE {condition}"
        return self.select(record, f"{table} WHERE rowid IN ({places})", **parameters)

    def put(self, name: str, columns: Sequence[tuple[str, str]], rows: Sequence[tuple[Any, ...]]) -> None:
        """Put rows into the temporary table `name`, in place of what it held. columns: names and SQL types.

        Raises:
            ValueError: a value does not fit its column.
        """
        import polars as pl

        schema = {column: polars_types()[kind] for column, kind in columns}
        try:
            frame = pl.DataFrame(list(rows), schema=schema, orient="row", strict=True)
        except (pl.exceptions.PolarsError, UnicodeError, TypeError, OverflowError) as fault:
            raise ValueError(f"{name}: {fault}") from fault
        self._connection.register("incoming", _ArrowStream(frame))
        values = ", ".join(f"CAST({column} AS {kind}) AS {column}" for column, kind in columns)
        self._connection.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS SELECT {values} FROM incoming")
        self._connection.unregister("incoming")

    def write_parquet(self, table: str, path: Path) -> int:
        """Write the rows of a table to a Parquet file; return how many there are."""
        self.rows(f"COPY (SELECT * FROM {table}) TO {quoted(str(path))} (FORMAT parquet, COMPRESSION zstd)")
        return int(self.rows(f"SELECT count(*) FROM {table}")[0][0])

    def read_parquet(self, table: Table, paths: Sequence[Path]) -> list[str]:
        """Insert the rows of Parquet files into an empty table, each key once; of two rows the older counts.

        Columns that a file lacks are NULL. Returns a sentence for each file that does not read.
        """
        faults = {path: fault for path in paths if (fault := self._why_unreadable(table, path))}
        readable = [path for path in paths if path not in faults]
        if readable:
            files = f"[{', '.join(quoted(_pattern(path)) for path in readable)}]"
            source = f"read_parquet({files}, union_by_name = true)"
            present = {row[0] for row in self.rows(f"DESCRIBE SELECT * FROM {source}")}
            values = ", ".join(
                f"CAST({column.name if column.name in present else 'NULL'} AS {column.type})"
                for column in table.columns
            )
            names = ", ".join(column.name for column in table.columns)
            self.rows(f"INSERT INTO {table.name} ({names}) SELECT {values} FROM {source}")
            self._keep_oldest(table)
        return [f"{path}: left out, it does not read: {reason}" for path, reason in faults.items()]

    def _keep_oldest(self, table: Table) -> None:
        """Delete rows whose key an older row has. Files that one program wrote hardly ever hold any."""
        key = ", ".join(table.key)
        again = f"SELECT {key} FROM {table.name} GROUP BY {key} HAVING count(*) > 1"
        if self.rows(f"{again} LIMIT 1"):
            age = f"row_number() OVER (PARTITION BY {key} ORDER BY created_at, rowid)"
            numbered = f"SELECT rowid AS place, {age} AS age FROM {table.name} WHERE ({key}) IN ({again})"
            later = f"SELECT place FROM ({numbered}) numbered WHERE age > 1"
            self.rows(f"DELETE FROM {table.name} WHERE rowid IN ({later})")

    def _why_unreadable(self, table: Table, path: Path) -> str | None:
        source = f"read_parquet({quoted(_pattern(path))})"
        try:
            with self._connection.cursor() as outside:  # a statement that fails would end the transaction
                present = {row[0] for row in outside.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()}
                outside.execute(f"SELECT count(COLUMNS(*)) FROM {source}").fetchall()  # reads every value
        except duckdb.Error as fault:
            return str(fault).partition("\n")[0]
        lacks = [column.name for column in table.columns if not column.nullable and column.name not in present]
        return f"it has no {', '.join(lacks)}" if lacks else None


def _pattern(path: Path) -> str:
    """Return a pattern of files that stands for this one alone."""
    return "".join(f"[{character}]" if character in "*?[" else character for character in str(path))


class _ArrowStream:
    """A polars frame as DuckDB reads it without pyarrow."""

    def __init__(self, frame: Any):
        self._frame = frame

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._frame.__arrow_c_stream__(requested_schema)


def quoted(text: str) -> str:
    """Return `text` as a literal of SQL."""
    return "'" + text.replace("'", "''") + "'"


def _memory() -> duckdb.DuckDBPyConnection:
    """Return this thread's DuckDB without a file. A forked process makes its own."""
    if getattr(_kept, "owner", None) != os.getpid():
        memory = duckdb.connect()
        spill = Path(tempfile.gettempdir()) / f"caption-assets-ledger-{os.getpid()}-{threading.get_ident()}"
        for setting in (f"memory_limit = '{MEMORY_LIMIT}'", f"temp_directory = {quoted(str(spill))}",
                        "TimeZone = 'UTC'", "enable_progress_bar = false", "threads = 1",
                        "checkpoint_threshold = '0B'"):  # fmt: skip
            memory.execute(f"SET {setting}")
        _kept.memory, _kept.owner = memory, os.getpid()
    connection: duckdb.DuckDBPyConnection = _kept.memory
    return connection


def _forget() -> None:
    if getattr(_kept, "owner", None) == os.getpid():
        _kept.memory.close()
        _kept.owner = None
