"""The ledger: append-only history that several processes commit at once, and the table of what is so now.

    ledger = Ledger(RootFolder.at("./data"))
    ledger.commit([UploadRow(...), ClipRow(...)])
    ledger.query("SELECT status, count(*) AS n FROM uploads GROUP BY status")

A commit is one transaction: it inserts the rows whose keys are new, and brings `captions` up to date with them.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, TypeVar

from caption_assets.ledger import migrations, upkeep
from caption_assets.ledger.duckdb_store import DuckDBStore
from caption_assets.ledger.schema import HISTORY, TABLES, Record
from caption_assets.ledger.store import Session, Store
from caption_assets.root import RootFolder

T = TypeVar("T")


class Ledger:
    """The ledger of one root folder. Cheap to make; nothing is open between calls."""

    def __init__(self, root: RootFolder):
        self.root = root
        self.store: Store = DuckDBStore(root.ledger / "ledger.duckdb")

    @contextmanager
    def session(self, *, writes: bool = False) -> Iterator[Session]:
        """Run the body as one transaction: all that it reads is of one state. Keep it short, since others wait.

        writes: it may change tables; `commit` is the one way to do that.

        Raises:
            LedgerError: the ledger does not open, or a statement is wrong.
        """
        with self.store.alone():
            migrations.prepare(self.store, self.root)
            with self.store.session(writes=writes) as session:
                yield session

    def read(self, question: Callable[..., T], *arguments: Any, **named: Any) -> T:
        """Return `question(session, *arguments)`, asked in a transaction of its own."""
        with self.session() as session:
            return question(session, *arguments, **named)

    def select(self, record: type[T], source: str, **parameters: object) -> list[T]:
        """Return rows of `source` (what follows FROM) as instances of `record`, see `Session.select`."""
        with self.session() as session:
            return session.select(record, source, **parameters)

    def query(self, sql: str, **parameters: object) -> list[dict[str, Any]]:
        """Run one reading statement of a user and return its rows as dictionaries.

        Raises:
            LedgerError: the statement is wrong, wants to write, or is more than one.
        """
        with self.session() as session:
            return session.dictionaries(sql, **parameters)

    def commit(self, rows: Iterable[Record]) -> dict[str, int]:
        """Append rows of any tables; return how many of each table were new.

        Rows whose key is there already are left out, so a commit may be repeated. A recipe comes with the first row
        that names it or before, and a candidate likewise.

        Raises:
            ValueError: a row does not fit its table. Nothing was written.
            LedgerError: the ledger cannot be used. Nothing was written.
            LedgerNotWritten: the disk is full, see there. The rows are there or not: commit them again.
        """
        by_table: dict[str, list[Record]] = {}
        for row in rows:
            by_table.setdefault(row.table.name, []).append(row)
        if not by_table:
            return {}
        with self.session(writes=True) as session:
            new = {
                name: inserted for name, table in HISTORY.items()
                if (inserted := session.insert_new(table, by_table.get(name, ())))
            }  # fmt: skip
            upkeep.follow(session, new)
        return {name: len(inserted) for name, inserted in new.items()}

    def verify(self) -> list[str]:
        """Return a sentence for each key that is there twice and each row of `captions` that history contradicts."""
        faults = []
        with self.session() as session:
            for name, table in TABLES.items():
                key = ", ".join(table.key)
                for row in session.rows(f"SELECT {key} FROM {name} GROUP BY {key} HAVING count(*) > 1"):
                    faults.append(f"{name}: the key {', '.join(map(str, row))} is there more than once")
            names = "SELECT batch FROM uploads UNION SELECT batch FROM captions ORDER BY batch"
            for (batch,) in session.rows(names):
                actual = {row.window_id: row for row in upkeep.batch_rows(session, batch)}
                expected = {row.window_id: row for row in upkeep.expected_rows(session, batch)}
                for window in sorted(actual.keys() | expected.keys()):
                    if actual.get(window) != expected.get(window):
                        faults.append(_difference(batch, window, actual.get(window), expected.get(window)))
        return faults


def _difference(batch: str, window: str, actual: Any, expected: Any) -> str:
    if actual is None or expected is None:
        what = "is missing" if actual is None else "has no window in the history"
        return f"captions: the row of {window} in {batch!r} {what}"
    before: Mapping[str, object] = asdict(actual)
    after: Mapping[str, object] = asdict(expected)
    names = [name for name in before if before[name] != after[name]]
    said = "; ".join(f"{name} is {before[name]!r} and should be {after[name]!r}" for name in names)
    return f"captions: {window} in {batch!r}: {said}"
