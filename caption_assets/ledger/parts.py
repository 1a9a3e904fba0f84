"""Part files: the record of what happened. The database is an index over them and can be made again at any time.

A part is one Parquet file of one table, `ledger/parts/<table>/<batch>/<run>.parquet`. It is written under a temporary
name, flushed to disk and renamed: a file under its final name is complete.
"""

import io
import json
import os
import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

import polars as pl

from caption_assets.ledger.schema import TABLES, Table

PART_SUFFIX = ".parquet"

SAY_DONE = ("uploads", "clip_sets", "window_sets", "runs")
"""Tables whose rows tell a later run that the rows of other tables are there: their parts are renamed last."""

Row = Mapping[str, object]


def part_folder(parts: Path, table: str, batch: str) -> Path:
    """Return the folder of a table's parts for `batch`."""
    return parts / table / batch


def as_frame(table: Table, rows: Sequence[Row]) -> pl.DataFrame:
    """Return `rows` with the table's types. A mapping in a JSON column becomes canonical JSON.

    A row may have been read from the database: what that adds to it is left out.

    Raises:
        ValueError: a row has a column the table lacks, lacks one that may not be NULL, or has a value that does
            not fit its type.
    """
    json_columns = [column.name for column in table.columns if column.type == "JSON"]
    required = {column.name for column in table.columns if not column.nullable}
    known = {column.name for column in table.columns}
    cleaned = []
    added = set(table.database_columns) - known
    for row in rows:
        unknown, missing = row.keys() - known - added, {name for name in required if row.get(name) is None}
        if unknown or missing:
            raise ValueError(f"{table.name}: unknown columns {sorted(unknown)}, missing values {sorted(missing)}")
        own = {name: value for name, value in row.items() if name not in added}
        cleaned.append({**own, **{name: _as_json(row.get(name)) for name in json_columns}})
    try:
        return pl.DataFrame(cleaned, schema=table.polars_schema, orient="row")
    except (pl.exceptions.PolarsError, UnicodeError, TypeError) as error:
        raise ValueError(f"{table.name}: {error}") from error


def write_temporary_part(folder: Path, frame: pl.DataFrame) -> Path:
    """Write `frame` to a temporary file in `folder` and flush it to disk. Rename it to commit it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f".{uuid.uuid4().hex}.tmp"
    try:
        write_part(frame, path)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return path


def write_part(frame: pl.DataFrame, path: Path) -> None:
    """Write `frame` to `path` and flush it to disk."""
    content = io.BytesIO()  # written by polars itself, a full disk is "Invalid thrift"
    frame.write_parquet(content, compression="zstd", statistics=True)
    with path.open("wb") as file:
        file.write(content.getbuffer())
        file.flush()
        os.fsync(file.fileno())


def free_part_path(folder: Path, run_id: str) -> Path:
    """Return `<run>.parquet`, or `<run>.1.parquet` and so on where earlier commits of the run took the name."""
    path, count = folder / f"{run_id}{PART_SUFFIX}", 0
    while path.exists():
        count += 1
        path = folder / f"{run_id}.{count}{PART_SUFFIX}"
    return path


def all_parts(parts: Path, table: str) -> list[Path]:
    """Return every committed part of a table, sorted by path."""
    return sorted((parts / table).glob(f"*/*{PART_SUFFIX}"))


def in_commit_order(tables: Iterable[str]) -> list[str]:
    """Return table names in the order their parts are renamed: what says `done` comes last.

    A crash between two renames then leaves rows that nothing counts as done yet, and the next run completes them.
    """
    order = [name for name in TABLES if name not in SAY_DONE] + list(SAY_DONE)
    return sorted(tables, key=order.index)


def why_torn(path: Path) -> str | None:
    """Return what is wrong with a part that is cut off at either end, or None."""
    # The footer is the last thing a writer writes and its magic the last four bytes: looking at both ends tells a torn
    # file from a whole one without opening it through DuckDB, which would cost milliseconds for each of thousands.
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(4)
        file.seek(max(size - 4, 0), os.SEEK_SET)
        tail = file.read(4)
    if head != b"PAR1" or tail != b"PAR1":
        return f"not a whole Parquet file ({size} bytes)"
    return None


def pattern_of(path: Path) -> str:
    """Return `path` as a DuckDB file pattern that stands for this file alone."""
    return "".join(f"[{character}]" if character in "*?[" else character for character in str(path))


def sync_file(path: Path) -> None:
    """Make the content of a file survive a power cut."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make renames in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _as_json(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, default=_json_default)


def _json_default(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} in a JSON column")
