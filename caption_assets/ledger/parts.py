"""Part files: the record of what happened. The database is an index over them and can be made again at any time.

A part is one Parquet file of one table, `ledger/parts/<table>/<batch>/<run>.parquet`. It is written under a temporary
name, flushed to disk and renamed: a file under its final name is complete.
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

import polars as pl

from caption_assets.ledger.schema import TABLES, Table

PART_SUFFIX = ".parquet"
GLOB_CHARACTERS = "%*?[]"
"""Characters that DuckDB's file patterns give a meaning to, and the one that escapes them here."""

Row = Mapping[str, object]


def part_folder(parts: Path, table: str, batch: str) -> Path:
    """Return the folder of a table's parts for `batch`, with pattern characters of its name percent-encoded."""
    name = "".join(f"%{ord(c):02X}" if c in GLOB_CHARACTERS else c for c in batch)
    return parts / table / name


def as_frame(table: Table, rows: Sequence[Row]) -> pl.DataFrame:
    """Return `rows` with the table's types. A mapping in a JSON column becomes canonical JSON.

    Raises:
        ValueError: a row has a column the table lacks, or lacks one that may not be NULL.
    """
    json_columns = [column.name for column in table.columns if column.type == "JSON"]
    required = {column.name for column in table.columns if not column.nullable}
    known = {column.name for column in table.columns}
    cleaned = []
    for row in rows:
        unknown, missing = row.keys() - known, {name for name in required if row.get(name) is None}
        if unknown or missing:
            raise ValueError(f"{table.name}: unknown columns {sorted(unknown)}, missing values {sorted(missing)}")
        cleaned.append({**row, **{name: _as_json(row.get(name)) for name in json_columns}})
    return pl.DataFrame(cleaned, schema=table.polars_schema, orient="row")


def write_temporary_part(folder: Path, table: Table, rows: Sequence[Row], name: str) -> Path:
    """Write `rows` to a temporary file in `folder` and flush it to disk. Rename it to commit it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f".{name}.{os.getpid()}.tmp"
    with path.open("wb") as file:
        as_frame(table, rows).write_parquet(file, compression="zstd", statistics=True)
        file.flush()
        os.fsync(file.fileno())
    return path


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
    order = list(TABLES)
    order.remove("window_sets")
    order.insert(order.index("windows") + 1, "window_sets")
    order.remove("runs")
    order.append("runs")
    return sorted(tables, key=order.index)


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
    return json.dumps(value, sort_keys=True, ensure_ascii=False, default=_json_default)


def _json_default(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} in a JSON column")
