"""Backups: every history table as Parquet, and a ledger made again from them, or from the part files of version 6.

DIR/manifest.json               version, time, and rows per table
DIR/<table>.parquet
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from caption_assets.ledger import migrations, upkeep
from caption_assets.ledger.duckdb_store import LARGE_BLOCKS, SMALL_BLOCKS, DuckDBStore
from caption_assets.ledger.schema import HISTORY
from caption_assets.ledger.store import LedgerError, Session
from caption_assets.root import RootFolder

MANIFEST = "manifest.json"
LARGE_BYTES = 64 << 20
"""Parquet files of which a ledger is made are many from here."""
PARTS = "parts"
"""Below the ledger's folder, the record of version 6 and before: `parts/<table>/<batch>/<run>.parquet`."""


def write_backup(session: Session, folder: Path) -> dict[str, int]:
    """Write every history table to a new folder; return the rows of each.

    Raises:
        LedgerError: the folder is there already.
    """
    if folder.exists():
        raise LedgerError(f"{folder} is there already; name a new folder for the backup")
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        counts = {name: session.write_parquet(name, temporary / f"{name}.parquet") for name in HISTORY}
        about = {"version": migrations.newest_version(), "created_at": datetime.now(UTC).isoformat(), "rows": counts}
        (temporary / MANIFEST).write_text(json.dumps(about, indent=2), encoding="utf-8")
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return counts


def restore(root: RootFolder, folder: Path) -> list[str]:
    """Make the ledger of a root again from a backup or from part files; the one that is there is set aside.

    Returns a sentence for each file that does not read: its rows are missing.

    Raises:
        LedgerError: the folder holds neither.
    """
    store = DuckDBStore(root.ledger / "ledger.duckdb")
    with store.alone():
        return restore_into(root, folder)


def restore_into(root: RootFolder, folder: Path) -> list[str]:
    """Do what `restore` does, for a caller who is alone with the ledger."""
    files = {name: sorted(_files_of(name, folder)) for name in HISTORY}
    if not any(files.values()):
        raise LedgerError(f"{folder}: no backup (no {MANIFEST}) and no part files; name a folder that `ledger backup` "
                          "wrote, or the parts/ folder of an earlier version")  # fmt: skip
    is_large = sum(path.stat().st_size for some in files.values() for path in some if path.exists()) > LARGE_BYTES
    database = root.ledger / "ledger.duckdb"
    fresh = DuckDBStore(root.ledger / "ledger.restoring", LARGE_BLOCKS if is_large else SMALL_BLOCKS)
    for leftover in root.ledger.glob("ledger.restoring*"):
        leftover.unlink()
    faults: list[str] = []
    # In many transactions, since a large one needs much memory. Nobody opens the file before it has its name.
    with fresh.session(writes=True) as session:
        migrations.create(session)
    for name, table in HISTORY.items():
        with fresh.session(writes=True) as session:
            faults += session.read_parquet(table, files[name])
    with fresh.session(writes=True) as session:
        # What names a recipe that did not read is made current again by the next run, with the recipe.
        for name in ("active_recipes", "clip_recipes"):
            session.rows(f"DELETE FROM {name} WHERE recipe_id NOT IN (SELECT recipe_id FROM recipes)")
        batches = session.rows("SELECT DISTINCT batch FROM uploads ORDER BY batch")
    for (batch,) in batches:
        with fresh.session(writes=True) as session:
            upkeep.place_batch(session, batch)
    if database.exists():
        _set_aside(database)
    fresh.path.replace(database)
    return faults


def _set_aside(database: Path) -> None:
    """Keep a database that is about to be replaced under a name of its own. It stays in place until then."""
    with suppress(LedgerError), DuckDBStore(database).session(writes=True):
        pass  # takes what a killed commit has left in the log into the file
    aside = database.with_name(f"ledger.{datetime.now(UTC):%Y%m%dT%H%M%S.%f}.replaced.duckdb")
    try:
        aside.hardlink_to(database)
    except OSError:  # a file system without links
        shutil.copy2(database, aside)
    log = Path(f"{database}.wal")
    if log.exists():
        log.replace(f"{aside}.wal")


def _files_of(table: str, folder: Path) -> Iterator[Path]:
    if (folder / MANIFEST).is_file():
        version = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["version"]
        if version > migrations.newest_version():
            raise LedgerError(f"{folder}: a backup of schema version {version}, this program knows "
                              f"{migrations.newest_version()}; update caption_assets")  # fmt: skip
        yield folder / f"{table}.parquet"
    else:
        yield from (folder / table).glob("*/*.parquet")
