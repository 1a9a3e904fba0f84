"""Rows that an engine has made and that no commit holds yet.

A commit costs some ten milliseconds and a file, so results are committed every few seconds. Each row is first written
here, as one line, which a killed process leaves behind: whoever works on the batch next commits it. So a kill costs no
more than what the engine was working on.

    ledger/journal/<hash of the batch>/<run>.jsonl
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from caption_assets.ledger.parts import Row
from caption_assets.ledger.schema import TABLES

SUFFIX = ".jsonl"


class Journal:
    """The uncommitted rows of one run for one batch. Only the holder of the batch's lock may write one."""

    def __init__(self, folder: Path, run_id: str) -> None:
        self._path = folder / f"{run_id}{SUFFIX}"
        self._file: int | None = None

    def add(self, rows: Mapping[str, Sequence[Row]]) -> None:
        """Write rows, given per table. They outlive this process, though not a power cut: they are not synced."""
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        lines = (json.dumps([table, row], default=_plain) + "\n" for table, made in rows.items() for row in made)
        # A line that a full disk cut short before is ended first, so that it spoils no other.
        _write(("\n" + "".join(lines)).encode(), self._file)

    def clear(self) -> None:
        """Forget what was written: a commit holds it now."""
        if self._file is not None:
            os.ftruncate(self._file, 0)

    def close(self) -> None:
        """Remove the journal. Only after a commit."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
            self._path.unlink(missing_ok=True)


def left_behind(folder: Path) -> Iterator[tuple[Path, str, dict[str, list[Row]]]]:
    """Yield each journal of a batch that a dead run left: its path, the run, and its rows per table.

    A line that the process died writing is left out.
    """
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        rows: dict[str, list[Row]] = {}
        for line in path.read_bytes().split(b"\n"):
            try:
                table, row = json.loads(line)
                typed = _typed(table, row)
            except (ValueError, KeyError, TypeError):
                continue  # empty, torn, or of another version's tables
            rows.setdefault(table, []).append(typed)
        yield path, path.name.removesuffix(SUFFIX), rows


def _write(data: bytes, file: int) -> None:
    while data:
        data = data[os.write(file, data) :]


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} in a row")


def _typed(table: str, row: dict[str, object]) -> Row:
    times = {column.name for column in TABLES[table].columns if column.type == "TIMESTAMPTZ"}
    return {
        name: datetime.fromisoformat(value) if name in times and isinstance(value, str) else value
        for name, value in row.items()
    }
