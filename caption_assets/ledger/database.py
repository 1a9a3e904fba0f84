"""The ledger: append-only rows that several processes commit at once, and SQL over them.

A commit writes part files first, then brings them into DuckDB in one short transaction. Every connection, readers
too, lives under one file lock: duckdb 2.0.0 loses acknowledged commits without it, and with it nobody waits for long.
A crash at any point is repaired by whoever opens the ledger next.

    ledger = Ledger(RootFolder.at("./data"))
    ledger.commit("my-run", "batch", {"uploads": rows})
    ledger.query("SELECT status, count(*) AS n FROM uploads GROUP BY status")
"""

import json
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
from filelock import FileLock, Timeout

from caption_assets.ledger import compaction, derived, parts
from caption_assets.ledger.compaction import Compacted
from caption_assets.ledger.connection import LARGE_BYTES, attached
from caption_assets.ledger.parts import Row
from caption_assets.ledger.schema import SCHEMA_VERSION, TABLES, Table
from caption_assets.root import RootFolder

LOG = logging.getLogger(__name__)

LOCK_TIMEOUT_S = 600.0
"""A transaction takes milliseconds, a rebuild of millions of rows a minute: who waits longer waits for a dead lock."""

READING = ([duckdb.StatementType.SELECT], [duckdb.StatementType.EXPLAIN])
"""What `query` runs. Alone, since a COMMIT in front of a second statement would end the read-only transaction."""

VIEWS = ("people", "views")
"""Files of views, in the order in which they need one another."""

LOCK_POLL_S = 0.005

DELETING_S = 0.05
"""So long a compaction keeps others out at a time."""

PARTS_AT_ONCE = 20
"""So many are read in one statement of a rebuild, which bounds its memory."""


class LedgerError(RuntimeError):
    """The ledger cannot be used. The message says which file and what to do."""


class LedgerNotWritten(LedgerError, OSError):
    """The disk did not take a commit: it is full, or broken. What was committed before is untouched."""


@dataclass(frozen=True)
class Rebuilt:
    """What a rebuild brought in: rows per table, and the parts it could not read, with the reason."""

    rows: Mapping[str, int]
    unreadable: Mapping[str, str]


def load_sql(name: str) -> str:
    """Return the statement in `ledger/sql/<name>.sql`."""
    return files("caption_assets.ledger").joinpath("sql", f"{name}.sql").read_text(encoding="utf-8")


class Ledger:
    """The ledger of one root folder. Cheap to make; holds nothing open between calls."""

    def __init__(self, root: RootFolder):
        self._root = root
        self._parts = root.ledger / "parts"
        self._pending = root.ledger / "pending"
        self.database = root.ledger / "ledger.duckdb"
        self._opened: duckdb.DuckDBPyConnection | None = None

    @contextmanager
    def together(self) -> Iterator[None]:
        """Answer every query of the block through one opening of the file: all see the same state, and none waits anew.

        Every other process is kept out meanwhile, so the block holds queries and nothing else.
        """
        with self._locked() as connection:
            self._opened = connection
            try:
                yield
            finally:
                self._opened = None

    def query(self, sql: str, **parameters: object) -> list[dict[str, Any]]:
        """Run one reading statement and return its rows as dictionaries.

        Raises:
            LedgerError: the statement is wrong, wants to write, or is more than one.
        """
        with self._locked() as connection:
            try:
                if [statement.type for statement in connection.extract_statements(sql)] not in READING:
                    raise LedgerError("one reading statement is allowed, such as SELECT; the ledger changes by commits")
                with _transaction(connection, "READ ONLY"):
                    cursor = connection.execute(sql, parameters or None)
                    if cursor.description is None:
                        return []
                    names = _distinct([column[0] for column in cursor.description])
                    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
            except duckdb.Error as error:
                raise LedgerError(f"{error}") from error

    def named(self, name: str, **parameters: object) -> list[dict[str, Any]]:
        """Run the statement in `ledger/sql/<name>.sql`."""
        return self.query(load_sql(name), **parameters)

    def commit(self, run_id: str, batch: str, rows: Mapping[str, Sequence[Row]]) -> dict[str, int]:
        """Append `rows`, given per table, and return how many rows of each table were new.

        On return they are on disk and in the database. Rows whose key is there already are left out, so a commit may
        be repeated. Tables without new rows make no part.

        Raises:
            ValueError: a row does not fit its table. Nothing was written.
            LedgerError: the ledger cannot be used. Rows may be there or not; the same commit again completes it.
            LedgerNotWritten: the disk is full. As above; it is an OSError too.
        """
        filled = [name for name in parts.in_commit_order(rows) if rows[name]]
        frames = {name: parts.as_frame(TABLES[name], rows[name]) for name in filled}
        if not frames:
            return {}
        written: dict[str, Path] = {}
        try:
            for name, frame in frames.items():
                written[name] = parts.write_temporary_part(parts.part_folder(self._parts, name, batch), frame)
            with self._locked() as connection:
                return self._append(connection, run_id, frames, written)
        except duckdb.IOException as error:
            raise LedgerNotWritten(_not_committed(run_id, batch, error)) from error
        except duckdb.Error as error:
            raise LedgerError(f"rows of run {run_id} for {batch!r} were not committed: {error}") from error
        except OSError as error:
            raise LedgerNotWritten(_not_committed(run_id, batch, error)) from error
        finally:
            for temporary in written.values():
                temporary.unlink(missing_ok=True)

    def _append(
        self,
        connection: duckdb.DuckDBPyConnection,
        run_id: str,
        frames: Mapping[str, pl.DataFrame],
        written: Mapping[str, Path],
    ) -> dict[str, int]:
        """Insert the rows of temporary parts, then give the parts their names, then commit.

        In this order a row that does not fit is refused before its part is a part. A part is left with its new rows
        alone: no row is recorded twice, so that a rebuild cannot choose another one.
        """
        inserted: dict[str, int] = {}
        named: list[tuple[str, Path, Path]] = []
        with _transaction(connection):
            for name, temporary in written.items():
                new = _insert(connection, TABLES[name], temporary)
                inserted[name] = len(new)
                if not new:
                    continue
                if len(new) < frames[name].height:
                    parts.write_part(frames[name][new], temporary)
                named.append((name, temporary, parts.free_part_path(temporary.parent, run_id)))
            if not named:
                return inserted
            derived.follow(connection, [name for name, _, _ in named])
            marker = self._mark_pending(run_id, [(name, path) for name, _, path in named])
            for _, temporary, path in named:
                temporary.rename(path)
                parts.sync_folder(path.parent)
        marker.unlink()
        return inserted

    def rebuild(self) -> Rebuilt:
        """Make the database again from the parts, beside the old one, and put it in its place."""
        with self._alone():
            return self._rebuild()

    def compact(self, at_least: int = 2) -> dict[str, Compacted]:
        """Merge the small parts of every table that has `at_least` so many, while others read and commit.

        Raises:
            OSError: a merged part cannot be written. What was there is there.
        """
        return {table.name: self._compact(table, at_least) for table in TABLES.values()}

    def _compact(self, table: Table, at_least: int) -> Compacted:
        found = parts.all_parts(self._parts, table.name)
        done = Compacted(len(found), len(found))
        folder = self._parts / table.name / compaction.FOLDER
        for group in compaction.groups(found, max(at_least, 2)):
            try:
                temporary, bad = compaction.merge(table, list(group), folder)
            except OSError:
                if all(path.exists() for path in group):
                    raise
                continue  # another process merges them too, and was faster
            done.unreadable |= {path: reason for path, reason in bad.items() if path.exists()}
            if temporary is None:
                continue
            whole = {path: stamp for path, stamp in group.items() if path not in bad}
            try:
                if self._put_in_place(temporary, whole):
                    done.after -= len(whole) - 1
            finally:
                temporary.unlink(missing_ok=True)
        return done

    def _put_in_place(self, temporary: Path, whole: Mapping[Path, compaction.Stamp]) -> bool:
        """Name a merged part and delete those it was made from, unless another process has merged some of them."""
        with self._locked():  # and no commit that died has yet to bring one of them in
            if any(compaction.stamp_of(path) != stamp for path, stamp in whole.items()):
                return False
            temporary.rename(temporary.with_name(compaction.merged_name(list(whole))))
            parts.sync_folder(temporary.parent)
        # A busy disk takes a second for a thousand files, and nobody can read meanwhile: a few at a time.
        left = list(whole.items())
        while left:
            with self._alone():
                until = time.monotonic() + DELETING_S
                while left:
                    path, stamp = left.pop()
                    if compaction.stamp_of(path) == stamp:  # else another merged it too, and a run has taken its name
                        path.unlink()
                    if time.monotonic() > until:
                        break
            time.sleep(2 * LOCK_POLL_S)
        return True

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep every other process, and thread, out of the ledger."""
        self._root.ledger.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self._root.ledger / "ledger.lock", timeout=LOCK_TIMEOUT_S, poll_interval=LOCK_POLL_S)
        try:
            lock.acquire()
        except Timeout:
            raise LedgerError(
                f"{lock.lock_file}: locked for more than {LOCK_TIMEOUT_S:.0f} s by another process"
            ) from None
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def _locked(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open the database under the lock, made or repaired where that is needed."""
        if self._opened is not None:
            yield self._opened
            return
        with self._alone(), ExitStack() as stack:
            connection = self._open(stack)
            self._finish_pending(connection)
            yield connection

    def _open(self, stack: ExitStack) -> duckdb.DuckDBPyConnection:
        if not self.database.exists():
            self._rebuild()
        connection = self._connect(stack)
        version = _schema_version(connection)
        if version == SCHEMA_VERSION:
            return connection
        stack.close()
        if version > SCHEMA_VERSION:
            raise LedgerError(
                f"{self.database}: schema version {version}, this program knows {SCHEMA_VERSION}; update caption_assets"
            )
        self._rebuild()
        return self._connect(stack)

    def _connect(self, stack: ExitStack) -> duckdb.DuckDBPyConnection:
        try:
            return stack.enter_context(attached(self.database))
        except duckdb.Error as error:
            raise LedgerError(
                f"{self.database} does not open ({error}); run `caption-assets ledger rebuild`, which makes it again: "
                "the parts beside it hold every row"
            ) from error

    def _rebuild(self) -> Rebuilt:
        try:
            return self._rebuild_from_parts()
        except duckdb.IOException as error:
            raise LedgerNotWritten(
                f"{self.database} cannot be made again from its parts: {error}. The parts are untouched: make room "
                "on the disk and run again"
            ) from error
        except duckdb.Error as error:
            raise LedgerError(f"{self.database} cannot be made again from its parts: {error}") from error

    def _rebuild_from_parts(self) -> Rebuilt:
        temporary = self.database.with_suffix(".rebuilding")
        for leftover in (temporary, Path(f"{temporary}.wal")):
            leftover.unlink(missing_ok=True)
        rows, unreadable = {}, {}
        found = {name: parts.all_parts(self._parts, name) for name in TABLES}
        is_large = sum(path.stat().st_size for paths in found.values() for path in paths) > LARGE_BYTES
        with attached(temporary, becomes_large=is_large) as connection:
            _create(connection)
            for table in TABLES.values():
                if table.name == derived.FIRST_WITH_TIME:
                    derived.make_first_uploads(connection)
                rows[table.name], bad = _insert_readable(connection, table, found[table.name])
                unreadable.update({self._root.relative(path): reason for path, reason in bad.items()})
                for path in bad:
                    LOG.warning("%s does not read and is left out: %s", path, bad[path])
            derived.make_all(connection)
            connection.execute("CHECKPOINT")
        # The old database goes before its log: without its log it would lack rows and open all the same.
        for old in (self.database, Path(f"{self.database}.wal")):
            old.unlink(missing_ok=True)
        temporary.replace(self.database)
        for marker in self._pending.glob("*.json"):
            marker.unlink()
        return Rebuilt(rows, unreadable)

    def _mark_pending(self, run_id: str, named: Sequence[tuple[str, Path]]) -> Path:
        """Note which parts are about to be renamed and brought in, so that a crash in between is repaired."""
        self._pending.mkdir(exist_ok=True)
        marker = self._pending / f"{run_id}.json"
        temporary = marker.with_suffix(".tmp")
        with temporary.open("w", encoding="utf-8") as file:
            json.dump([[name, self._root.relative(path)] for name, path in named], file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(marker)
        parts.sync_folder(self._pending)
        return marker

    def _finish_pending(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Bring in the parts of commits that died: whoever holds the lock knows that no such commit still runs."""
        if not self._pending.is_dir():
            return
        for marker in sorted(self._pending.glob("*.json")):
            try:
                listed = [
                    (name, self._root.path / path) for name, path in json.loads(marker.read_text(encoding="utf-8"))
                ]
                with _transaction(connection):
                    new = [name for name, path in listed if path.exists() and _insert(connection, TABLES[name], path)]
                    derived.follow(connection, new)
            except (duckdb.Error, ValueError, KeyError, TypeError) as error:
                raise LedgerError(
                    f"{marker}: a commit that was cut off cannot be brought in ({error}); run `caption-assets ledger "
                    "rebuild`, which names the parts that do not read and brings in all others"
                ) from error
            marker.unlink()


def _not_committed(run_id: str, batch: str, error: Exception) -> str:
    return (
        f"rows of run {run_id} for {batch!r} were not committed: {error}. Nothing that was committed before is lost: "
        "make room on the disk and run again"
    )


def _distinct(names: Sequence[str]) -> list[str]:
    """Return column names with a number behind each that came before: `SELECT 1 AS a, 2 AS a` has `a` and `a_1`."""
    seen: dict[str, int] = {}
    result = []
    for name in names:
        count = seen.get(name, 0)
        result.append(f"{name}_{count}" if count else name)
        seen[name] = count + 1
    return result


@contextmanager
def _transaction(connection: duckdb.DuckDBPyConnection, mode: str = "") -> Iterator[None]:
    connection.execute(f"BEGIN TRANSACTION {mode}")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _create(connection: duckdb.DuckDBPyConnection) -> None:
    with _transaction(connection):
        for table in TABLES.values():
            connection.execute(table.ddl)
        for name in VIEWS:
            connection.execute(load_sql(name))
        connection.execute(
            "CREATE TABLE ledger_schema AS SELECT CAST($version AS INTEGER) AS version", {"version": SCHEMA_VERSION}
        )


def _schema_version(connection: duckdb.DuckDBPyConnection) -> int:
    try:
        found = connection.execute("SELECT version FROM ledger_schema").fetchall()
    except duckdb.CatalogException:
        return 0
    return int(found[0][0])


def _insert_readable(
    connection: duckdb.DuckDBPyConnection, table: Table, found: Sequence[Path]
) -> tuple[int, dict[Path, str]]:
    """Insert all parts at once, or, where one does not read, every other one. A torn part is set aside."""
    bad = {path: _set_aside(path, reason) for path in found if (reason := parts.why_torn(path)) is not None}
    readable = [path for path in found if path not in bad]
    if not readable:
        return 0, bad
    try:
        return _insert_many(connection, table, readable), bad
    except duckdb.Error:
        inserted = 0
        for path in readable:
            try:
                inserted += len(_insert(connection, table, path))
            except duckdb.Error as error:
                bad[path] = str(error).partition("\n")[0]
        return inserted, bad


def _set_aside(path: Path, reason: str) -> str:
    """Rename a part that can never be read, so that it is no part any more, and return what happened to it."""
    aside = path.with_name(f"{path.name}.torn")
    path.rename(aside)
    return f"{reason}, set aside as {aside.name}: the next run makes what is missing"


def _insert(connection: duckdb.DuckDBPyConnection, table: Table, part: Path) -> list[int]:
    """Insert the rows of a part whose key the table lacks, and return their numbers. They are in `new_<table>` too."""
    new, paths = f"new_{table.name}", [parts.pattern_of(part)]
    rows = f"SELECT * FROM {_read(connection, table, paths)} {_key_is_new(table)} ORDER BY file_row_number"
    connection.execute(f"CREATE OR REPLACE TEMP TABLE {new} AS {rows}", {"paths": paths})
    numbers = [row[0] for row in connection.execute(f"SELECT file_row_number FROM {new}").fetchall()]
    if numbers:
        names = ", ".join(table.database_columns)
        connection.execute(f"INSERT INTO {table.name} ({names}) SELECT {names} FROM {new}")
    return numbers


def _insert_many(connection: duckdb.DuckDBPyConnection, table: Table, found: Sequence[Path]) -> int:
    """Insert the rows of any number of parts into a table that is empty, each key once, and return how many."""
    paths = [parts.pattern_of(path) for path in found]
    key = ", ".join(table.key)
    with _transaction(connection):
        inserted = sum(
            _insert_all(connection, table, paths[start : start + PARTS_AT_ONCE])
            for start in range(0, len(paths), PARTS_AT_ONCE)
        )
        # Keys that are there twice are rare, and to look for them is cheaper than to sort all rows by key. Their hashes
        # take a third of the time and the memory; two keys of one hash cost no more than that sort.
        twice = f"SELECT 1 FROM {table.name} GROUP BY hash({key}) HAVING count(*) > 1 LIMIT 1"
        if not connection.execute(twice).fetchall():
            return inserted
        connection.execute(f"DELETE FROM {table.name}")
        return _insert_all(connection, table, paths, _first_of_key(table))


def _insert_all(connection: duckdb.DuckDBPyConnection, table: Table, paths: Sequence[str], condition: str = "") -> int:
    names = ", ".join(table.database_columns)
    rows = f"SELECT {names} FROM {_read(connection, table, paths)} {condition}"
    done = connection.execute(f"INSERT INTO {table.name} ({names}) {rows}", {"paths": list(paths)})
    return int(done.fetchall()[0][0])


def _read(connection: duckdb.DuckDBPyConnection, table: Table, paths: Sequence[str]) -> str:
    """Return the FROM item `p`: rows of the parts $paths, typed, with their place and what the database adds.

    A part of an older schema lacks columns, which are NULL then.
    """
    described = connection.execute(
        "DESCRIBE SELECT * FROM read_parquet($paths, union_by_name = true)", {"paths": list(paths)}
    )
    present = {row[0] for row in described.fetchall()}
    values = ", ".join(
        f"CAST({c.name if c.name in present else 'NULL'} AS {c.type}) AS {c.name}" for c in table.columns
    )
    if table.found_by:
        values += f", md5_number_lower({table.found_by}) AS {table.found_by}_md5"
    options = "union_by_name = true, filename = true, file_row_number = true"
    rows = f"(SELECT {values}, filename, file_row_number FROM read_parquet($paths, {options}))"
    if table.about is None:
        return f"{rows} p"
    known, key = ("clip_first_uploads", "clip_id") if table.about == "clip" else ("windows", "window_id")
    return f"""
        (SELECT r.*, coalesce(o.first_upload_at, '{derived.UNKNOWN}') AS first_upload_at
         FROM {rows} r LEFT JOIN {known} o ON o.{key} = r.{key}) p
    """


def _key_is_new(table: Table) -> str:
    names = (*table.key, "first_upload_at") if table.about else table.key
    same_key = " AND ".join(f"t.{name} = p.{name}" for name in names)
    return f"WHERE NOT EXISTS (SELECT 1 FROM {table.name} t WHERE {same_key}) {_first_of_key(table)}"


def _first_of_key(table: Table) -> str:
    key = ", ".join(table.key)
    return f"QUALIFY row_number() OVER (PARTITION BY {key} ORDER BY created_at, filename, file_row_number) = 1"
