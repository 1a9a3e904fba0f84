"""What the database keeps beside the rows that were committed: all of it follows from them, and is there for speed.

    first_upload_at      of each row about a clip or window: when a batch first held the clip
    clip_first_uploads   the same, by clip
    batch_choices        the clips that each batch has, and which of them it shows
    batch_window_sets    the window sets that each batch shows
    batch_duplicates     the windows of each batch that are collapsed

A commit brings them up to date in its own transaction, for the batches that it touches; a rebuild makes them all. Each
has a view `<name>_now`, which says what it should hold.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime

import duckdb

from caption_assets.ledger.schema import TABLES

BY_BATCH = ("batch_choices", "batch_window_sets", "batch_duplicates")
"""In this order: each is made from those before it."""

FIRST_WITH_TIME = next(table.name for table in TABLES.values() if table.about)
"""A rebuild makes `clip_first_uploads` before this table: what that is made from comes first in TABLES."""

UNKNOWN = "epoch"
"""Of rows whose clip no batch has held yet, or whose window is not there yet."""

FEW_BATCHES = 4
"""So many are made again one by one, since a view with its batch given is cheap; more at once."""

# Which clips the new rows of a table are about, as far as these can change what a batch has and shows.
_CLIPS_OF_NEW_ROWS: Mapping[str, str] = {
    "clips": "SELECT clip_id FROM new_clips UNION ALL SELECT source_clip_id FROM new_clips",
    "clip_sets": "SELECT source_clip_id FROM new_clip_sets",
    "window_sets": "SELECT clip_id FROM new_window_sets",
    "windows": "SELECT clip_id FROM new_windows",
    "window_duplicates": """
        SELECT clip_id FROM windows SEMI JOIN new_window_duplicates USING (window_id, first_upload_at)
    """,
    "tombstones": "SELECT object_id FROM new_tombstones WHERE object_kind = 'clip'",
}
_BATCHES_OF_NEW_ROWS: Mapping[str, str] = {
    "uploads": "SELECT batch FROM new_uploads",
    "active_recipes": "SELECT batch FROM new_active_recipes WHERE kind IN ('split', 'window', 'dedupe', 'caption')",
    "clip_recipes": "SELECT batch FROM new_clip_recipes",
    "recipes": """
        SELECT a.batch FROM active_recipes a JOIN new_recipes r USING (recipe_id) WHERE a.kind IN ('split', 'window')
    """,
    "tombstones": """
        SELECT object_id FROM new_tombstones WHERE object_kind = 'batch'
        UNION ALL
        SELECT batch FROM uploads WHERE EXISTS (FROM new_tombstones WHERE object_kind NOT IN ('batch', 'clip'))
    """,
}
_CHANGED_CLIPS = """
    CREATE OR REPLACE TEMP TABLE moved_clips AS
    WITH touched(clip_id) AS ({touched})
    SELECT n.clip_id, n.first_upload_at, coalesce(o.first_upload_at, 'epoch') AS old_time
    FROM clip_first_uploads_now n
    LEFT JOIN clip_first_uploads o ON o.clip_id = n.clip_id
    WHERE n.clip_id IN (
      SELECT clip_id FROM touched
      UNION ALL
      SELECT c.clip_id FROM clips c WHERE c.source_clip_id IN (SELECT clip_id FROM touched)
    ) AND o.first_upload_at IS DISTINCT FROM n.first_upload_at
"""
_HOLDERS = """
    WITH touched(clip_id) AS ({touched}),
    sources AS (
      SELECT clip_id FROM touched
      UNION ALL
      SELECT source_clip_id FROM clips WHERE clip_id IN (SELECT clip_id FROM touched)
    )
    SELECT batch FROM uploads WHERE clip_id IN (SELECT clip_id FROM sources)
"""


def follow(connection: duckdb.DuckDBPyConnection, tables: Collection[str]) -> None:
    """Bring everything derived up to date with the rows of `new_<table>`, which each of `tables` has just got."""
    left = _move_clips(connection, tables)
    if left or "windows" in tables:
        _move_rows(connection, left or [datetime(1970, 1, 1, tzinfo=UTC)])
    touched = [sql for table, sql in _CLIPS_OF_NEW_ROWS.items() if table in tables]
    if left:
        touched.append("SELECT clip_id FROM moved_clips")
    stale = [sql for table, sql in _BATCHES_OF_NEW_ROWS.items() if table in tables]
    if touched:
        stale.append(_HOLDERS.format(touched=_all_of(touched)))
    if stale:
        found = connection.execute(f"SELECT DISTINCT batch FROM ({_all_of(stale)}) s(batch)").fetchall()
        _make_again(connection, [batch for (batch,) in found])


def make_first_uploads(connection: duckdb.DuckDBPyConnection) -> None:
    """Fill `clip_first_uploads`, once uploads and clips are there."""
    connection.execute("INSERT INTO clip_first_uploads FROM clip_first_uploads_now")


def make_all(connection: duckdb.DuckDBPyConnection) -> None:
    """Fill the tables by batch, once all else is there."""
    for name in BY_BATCH:
        connection.execute(f"INSERT INTO {name} FROM {name}_now")


def _move_clips(connection: duckdb.DuckDBPyConnection, tables: Collection[str]) -> list[datetime]:
    """Correct `clip_first_uploads`, and return the times that clips had which are new there or changed.

    These clips are in `moved_clips` then.
    """
    new = [f"SELECT clip_id FROM new_{table}" for table in ("uploads", "clips") if table in tables]
    if not new:
        return []
    connection.execute(_CHANGED_CLIPS.format(touched=_all_of(new)))
    left = [time for (time,) in connection.execute("SELECT DISTINCT old_time FROM moved_clips").fetchall()]
    if left:
        connection.execute("DELETE FROM clip_first_uploads WHERE clip_id IN (SELECT clip_id FROM moved_clips)")
        connection.execute("INSERT INTO clip_first_uploads SELECT clip_id, first_upload_at FROM moved_clips")
    return left


def _move_rows(connection: duckdb.DuckDBPyConnection, left: Sequence[datetime]) -> None:
    """Give the rows that have one of the times `left` that of their clip: it came after them, or was held earlier."""
    tables = {table.name: table.about for table in TABLES.values() if table.about}
    found = " UNION ALL ".join(
        f"SELECT '{name}' WHERE EXISTS (FROM {name} WHERE first_upload_at IN (SELECT unnest($left)))" for name in tables
    )
    there = {name for (name,) in connection.execute(found, {"left": left}).fetchall()}
    for name in (name for name in tables if name in there):  # in the order of TABLES: windows before what is about them
        other, key = ("clip_first_uploads", "clip_id") if tables[name] == "clip" else ("windows", "window_id")
        connection.execute(
            f"""
            UPDATE {name} t SET first_upload_at = o.first_upload_at FROM {other} o
            WHERE t.first_upload_at IN (SELECT unnest($left)) AND o.{key} = t.{key}
              AND o.first_upload_at <> t.first_upload_at
            """,
            {"left": left},
        )


def _make_again(connection: duckdb.DuckDBPyConnection, batches: Iterable[str]) -> None:
    wanted = list(batches)
    one_by_one = len(wanted) <= FEW_BATCHES
    condition = "batch = $wanted" if one_by_one else "batch IN (SELECT unnest($wanted))"
    for values in wanted if one_by_one else [wanted]:
        for name in BY_BATCH:
            connection.execute(f"DELETE FROM {name} WHERE {condition}", {"wanted": values})
            connection.execute(f"INSERT INTO {name} FROM {name}_now WHERE {condition}", {"wanted": values})


def _all_of(queries: Iterable[str]) -> str:
    return "\nUNION ALL\n".join(f"({query})" for query in queries)
