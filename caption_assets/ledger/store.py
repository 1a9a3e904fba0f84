"""What the ledger needs of a database: sessions, each one transaction that reads and writes typed rows."""

import dataclasses
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, TypeVar

from caption_assets.ledger.schema import Record, Table

RowT = TypeVar("RowT")


class LedgerError(RuntimeError):
    """The ledger cannot be used. The message says which file and what to do."""


class LedgerBusy(LedgerError):
    """Somebody else has the ledger open. The message says who."""


class LedgerNotWritten(LedgerError, OSError):
    """The disk did not take a commit: it is full, or broken. What was committed before is untouched."""


class Session:
    """One transaction. A store implements the first methods; statements are in the SQL that every store speaks."""

    def rows(self, sql: str, **parameters: object) -> list[tuple[Any, ...]]:
        """Return the rows of a statement; parameters are written `$name`."""
        raise NotImplementedError

    def dictionaries(self, sql: str, **parameters: object) -> list[dict[str, Any]]:
        """Return the rows of a user's reading statement by the names of its columns."""
        raise NotImplementedError

    def put(self, name: str, columns: Sequence[tuple[str, str]], rows: Sequence[tuple[Any, ...]]) -> None:
        """Put rows into the temporary table `name`, in place of what it held. columns: names and SQL types."""
        raise NotImplementedError

    def write_parquet(self, table: str, path: Path) -> int:
        """Write the rows of a table to a Parquet file; return how many there are."""
        raise NotImplementedError

    def read_parquet(self, table: Table, paths: Sequence[Path]) -> list[str]:
        """Insert the rows of Parquet files into an empty table; return a sentence for each that does not read."""
        raise NotImplementedError

    def select(self, record: type[RowT], source: str, **parameters: object) -> list[RowT]:
        """Return rows of `source` as instances of the dataclass `record`.

        source: what follows FROM, such as `uploads WHERE batch = $batch`. Columns are the fields of the record.
        """
        names = [field.name for field in dataclasses.fields(record)]  # type: ignore[arg-type]
        rows = self.rows(f"SELECT {', '.join(names)} FROM {source}", **parameters)
        return [record(**dict(zip(names, row, strict=True))) for row in rows]

    def select_few(self, record: type[RowT], table: str, condition: str, **parameters: object) -> list[RowT]:
        """Return the rows of a large table that a condition picks, a few of many, as `select` does."""
        return self.select(record, f"{table} WHERE {condition}", **parameters)

    def put_names(self, name: str, values: Sequence[str]) -> None:
        """Put texts into the temporary table `name`, whose one column is `name` too."""
        self.put(name, [(name, "VARCHAR")], [(value,) for value in dict.fromkeys(values)])

    def insert_new(self, table: Table, records: Sequence[Record]) -> list[Record]:
        """Insert the rows whose key the table lacks, each key once, and return them.

        Raises:
            ValueError: a row does not fit its table.
        """
        if not records:
            return []
        by_key: dict[tuple[Any, ...], Record] = {}
        for record in records:
            by_key.setdefault(tuple(getattr(record, name) for name in table.key), record)
        rows = list(by_key.values())
        self.put_rows("incoming_rows", table, rows)
        same = " AND ".join(f"t.{name} = n.{name}" for name in table.key)
        known = self.rows(f"SELECT n.row_number FROM incoming_rows n JOIN {table.name} t ON {same}")
        names = ", ".join(column.name for column in table.columns)
        if known:
            old = {number for (number,) in known}
            rows = [row for number, row in enumerate(rows) if number not in old]
            self.rows(f"DELETE FROM incoming_rows n USING {table.name} t WHERE {same}")
        self.rows(f"INSERT INTO {table.name} ({names}) SELECT {names} FROM incoming_rows ORDER BY row_number")
        return rows

    def put_rows(self, name: str, table: Table, records: Sequence[Record]) -> None:
        """Put rows of `table` into the temporary table `name`, with their `row_number` from 0."""
        for record in records:
            missing = [c.name for c in table.columns if not c.nullable and getattr(record, c.name) is None]
            if missing:
                raise ValueError(f"{table.name}: missing values {missing}")
        columns = [("row_number", "BIGINT"), *((column.name, column.type) for column in table.columns)]
        values = [
            (number, *(getattr(record, column.name) for column in table.columns))
            for number, record in enumerate(records)
        ]
        self.put(name, columns, values)


class Store(Protocol):
    """A database that holds one ledger."""

    def exists(self) -> bool:
        """Tell whether the database is there."""
        ...

    def alone(self) -> AbstractContextManager[None]:
        """Keep everybody else off the database while it is opened or replaced."""
        ...

    def session(self, *, writes: bool) -> AbstractContextManager[Session]:
        """Run the body as one transaction. writes: it may change tables; temporary ones it may always make."""
        ...
