"""The ledger's schema in a database: made, and brought forward by numbered migrations by whoever opens it first."""

import logging
import os
from collections.abc import Mapping, Sequence

from caption_assets.ledger import backup
from caption_assets.ledger.schema import HISTORY, TABLES
from caption_assets.ledger.store import LedgerError, Session, Store
from caption_assets.root import RootFolder

FIRST_VERSION = 7
"""Ledgers before it were indexes over part files, which `backup.restore` reads."""

MIGRATIONS: Mapping[int, Sequence[str]] = {}
"""The statements that lead to each version from the one before it."""

LOG = logging.getLogger(__name__)


def _newest(table: str, of: str, order: str) -> str:
    """Return a query of the newest row of each `of` in a table."""
    names = ", ".join(column.name for column in HISTORY[table].columns)
    ranked = f"SELECT {names}, row_number() OVER (PARTITION BY {of} ORDER BY {order}) AS age FROM {table}"
    return f"SELECT {names} FROM ({ranked}) ranked WHERE age = 1"


VIEWS: Mapping[str, str] = {
    "standing_takedowns": _newest("tombstones", "object_kind, object_id", "created_at DESC, run_id DESC")
    + " AND reason_code <> 'WITHDRAWN'",
    "live_uploads": _newest("uploads", "batch, path", "created_at DESC, run_id")
    + " AND batch NOT IN (SELECT object_id FROM standing_takedowns WHERE object_kind = 'batch')",
    "live_windows": "SELECT * FROM windows WHERE window_id IN (SELECT window_id FROM captions)",
    "batch_clips": "SELECT DISTINCT batch, clip_id, source_clip_id, clip_path, clip_name FROM captions",
    "current_recipes": _newest("active_recipes", "kind, batch", "valid_from DESC"),
}
"""Views for the SQL of users; the program reads tables."""

_prepared: set[tuple[int, str]] = set()


def newest_version() -> int:
    """Return the version that this program writes."""
    return max((FIRST_VERSION, *MIGRATIONS))


def prepare(store: Store, root: RootFolder) -> None:
    """Make the ledger of a root if there is none, or bring it forward. The caller is alone with it.

    Raises:
        LedgerError: a newer program made it.
    """
    name = (os.getpid(), str(root.ledger))
    if name in _prepared and store.exists():
        return
    parts = root.ledger / backup.PARTS
    version = 0
    if store.exists():
        with store.session(writes=True) as session:
            version = _version(session)
            if version >= FIRST_VERSION:
                _bring_forward(session, version)
    if version > newest_version():
        raise LedgerError(f"{root.ledger}: the ledger has schema version {version}, this program knows "
                          f"{newest_version()}; update caption_assets")  # fmt: skip
    if version < FIRST_VERSION and parts.is_dir():
        LOG.warning("%s: reading the part files of an earlier version, once", parts)
        for sentence in backup.restore_into(root, parts):
            LOG.warning("%s", sentence)
        parts.rename(parts.with_name(f"{backup.PARTS}.read"))
    elif 0 < version < FIRST_VERSION:
        raise LedgerError(f"{root.ledger}: the ledger has schema version {version}, and its part files ({parts}) are "
                          "gone; put them back from a backup")  # fmt: skip
    elif version == 0:
        with store.session(writes=True) as session:
            create(session)
    _prepared.add(name)


def create(session: Session) -> None:
    """Make every table and view."""
    for table in TABLES.values():
        session.rows(table.ddl)
    _make_views(session)
    session.rows("CREATE TABLE ledger_schema (version INTEGER NOT NULL)")
    session.rows(f"INSERT INTO ledger_schema VALUES ({newest_version()})")


def _bring_forward(session: Session, version: int) -> None:
    for number in range(version + 1, newest_version() + 1):
        for statement in MIGRATIONS[number]:
            session.rows(statement)
    if version < newest_version():
        _make_views(session)
        session.rows(f"UPDATE ledger_schema SET version = {newest_version()}")


def _make_views(session: Session) -> None:
    for name, query in VIEWS.items():
        session.rows(f"CREATE OR REPLACE VIEW {name} AS {query}")


def _version(session: Session) -> int:
    tables = "SELECT count(*) FROM information_schema.tables WHERE table_name = 'ledger_schema'"
    [[count]] = session.rows(tables)
    return int(session.rows("SELECT max(version) FROM ledger_schema")[0][0]) if count else 0
