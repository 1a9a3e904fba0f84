"""Many small parts become few large ones, while everybody works on.

The rows of a group of parts are written into one part, without any lock. Then, under the ledger's lock, that part gets
its name, and those it was made from are deleted, a few at a time. Cut off in between, rows are there twice, which a
rebuild and the next compaction see through, since a key counts once. The database is not touched: it holds the rows
already.
"""

import hashlib
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from caption_assets.ledger import parts
from caption_assets.ledger.connection import MEMORY_LIMIT, quoted
from caption_assets.ledger.schema import Table

FOLDER = ".compacted"
"""In the folder of a table, beside those of the batches: no batch may have a hidden name."""

MANY = 256
"""From so many small parts of one table on, runs compact them."""

SMALL_BYTES = 8 << 20
"""A part of this size is left as it is: no row is written again and again."""

GROUP_BYTES = 32 << 20
GROUP_PARTS = 1000
"""What is merged at once, so that memory and open files stay bounded."""


@dataclass
class Compacted:
    """What a compaction did to a table: parts before and after, and those that do not read, which stay."""

    before: int = 0
    after: int = 0
    unreadable: dict[Path, str] = field(default_factory=dict)


Stamp = tuple[int, int, int]


def stamp_of(path: Path) -> Stamp | None:
    """Return what tells a part from a later one of its name (inode, time, size), or None where there is none.

    The name of a part that was merged is free again, and a run may take it for its next one.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def groups(found: Sequence[Path], at_least: int) -> Iterator[dict[Path, Stamp]]:
    """Yield groups of small parts to merge, where there are `at_least` so many small ones, with the stamp of each."""
    stamps = ((path, stamp_of(path)) for path in found)  # none: another compaction has just deleted it
    small = [(path, stamp) for path, stamp in stamps if stamp is not None and stamp[2] < SMALL_BYTES]
    if len(small) < at_least:
        return
    group: dict[Path, Stamp] = {}
    total = 0
    for path, stamp in small:
        if group and (total + stamp[2] > GROUP_BYTES or len(group) == GROUP_PARTS):
            yield group
            group, total = {}, 0
        group[path] = stamp
        total += stamp[2]
    yield group


def merge(table: Table, group: Sequence[Path], folder: Path) -> tuple[Path | None, dict[Path, str]]:
    """Write the rows of the parts into a temporary part in `folder`; return it, and the parts that do not read.

    There is none where fewer than two read. Columns are those that the parts have, so that what another version of the
    program wrote is kept.

    Raises:
        OSError: the part cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{uuid.uuid4().hex}.tmp"
    bad = {path: reason for path in group if (reason := parts.why_torn(path)) is not None}
    whole = [path for path in group if path not in bad]
    try:
        with duckdb.connect(config={"memory_limit": MEMORY_LIMIT, "threads": 1}) as connection:
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute(f"SET temp_directory = {quoted(f'{temporary}.spill')}")
            try:
                _copy(connection, table, whole, temporary)
            except duckdb.Error:
                unreadable = _unreadable(connection, table, whole)
                if not unreadable:
                    raise
                bad |= unreadable
                whole = [path for path in whole if path not in bad]
                _copy(connection, table, whole, temporary)
        if len(whole) > 1:
            parts.sync_file(temporary)
            return temporary, bad
    except duckdb.Error as error:
        temporary.unlink(missing_ok=True)
        raise OSError(f"{folder}: a merged part cannot be written: {error}") from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return None, bad


def merged_name(group: Sequence[Path]) -> str:
    """Return the name of the part that stands for `group`: the same for the same parts."""
    names = "\n".join(f"{path.parent.name}/{path.name}" for path in group)
    return f"{hashlib.sha256(names.encode()).hexdigest()[:32]}{parts.PART_SUFFIX}"


def _copy(connection: duckdb.DuckDBPyConnection, table: Table, group: Sequence[Path], target: Path) -> None:
    if len(group) < 2:
        return
    key = ", ".join(table.key)
    connection.execute(
        f"""
        COPY (
          SELECT * EXCLUDE (filename, file_row_number)
          FROM read_parquet({_list(group)}, union_by_name = true, filename = true, file_row_number = true)
          QUALIFY row_number() OVER (PARTITION BY {key} ORDER BY created_at, filename, file_row_number) = 1
          ORDER BY filename, file_row_number
        ) TO {quoted(str(target))} (FORMAT parquet, COMPRESSION zstd)
        """
    )


def _unreadable(connection: duckdb.DuckDBPyConnection, table: Table, group: Sequence[Path]) -> Mapping[Path, str]:
    bad = {}
    for path in group:
        try:
            connection.execute(
                f"SELECT {', '.join(table.key)}, COLUMNS(*) FROM read_parquet({_list([path])})"
            ).fetchall()
        except duckdb.Error as error:
            bad[path] = str(error).partition("\n")[0]
    return bad


def _list(paths: Sequence[Path]) -> str:
    return "[" + ", ".join(quoted(parts.pattern_of(path)) for path in paths) + "]"
