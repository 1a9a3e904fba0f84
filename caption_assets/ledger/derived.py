"""What the database keeps beside the rows that were committed: all of it follows from them, and is there for speed.

    home_batch           of each row about a clip or window: where in its table the rows of that clip stand
    clip_homes           the same, by clip
    batch_choices        the clips that each batch has, and which of them it shows
    batch_window_sets    the window sets that each batch shows

A commit brings them up to date in its own transaction, for the batches that it touches; a rebuild makes them all. Each
has a view `<name>_now`, which says what it should hold.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence

import duckdb

from caption_assets.ledger.schema import TABLES

BY_BATCH = ("batch_choices", "batch_window_sets")
"""In this order: the second is made from the first."""

FIRST_WITH_HOME = next(table.name for table in TABLES.values() if table.about)
"""A rebuild makes the homes before this table: in the order of TABLES all that they are made from comes first."""

NO_HOME = ""
"""Of rows whose clip no batch has held yet, or whose window is not there yet."""

FEW_BATCHES = 4
"""So many are made again one by one, since a view with its batch given is cheap; more at once."""

# Which clips the new rows of a table are about, as far as these can change what a batch has and shows.
_CLIPS_OF_NEW_ROWS: Mapping[str, str] = {
    "clips": "SELECT clip_id FROM new_clips UNION ALL SELECT source_clip_id FROM new_clips",
    "clip_sets": "SELECT source_clip_id FROM new_clip_sets",
    "window_sets": "SELECT clip_id FROM new_window_sets",
    "windows": "SELECT clip_id FROM new_windows",
    "tombstones": "SELECT object_id FROM new_tombstones WHERE object_kind = 'clip'",
}
_BATCHES_OF_NEW_ROWS: Mapping[str, str] = {
    "uploads": "SELECT batch FROM new_uploads",
    "active_recipes": "SELECT batch FROM new_active_recipes WHERE kind IN ('split', 'window')",
    "recipes": """
        SELECT a.batch FROM active_recipes a JOIN new_recipes r USING (recipe_id) WHERE a.kind IN ('split', 'window')
    """,
    "tombstones": """
        SELECT object_id FROM new_tombstones WHERE object_kind = 'batch'
        UNION ALL
        SELECT batch FROM uploads WHERE EXISTS (FROM new_tombstones WHERE object_kind NOT IN ('batch', 'clip'))
    """,
}
_CHANGED_HOMES = """
    CREATE OR REPLACE TEMP TABLE moved_clips AS
    WITH touched(clip_id) AS ({touched})
    SELECT n.clip_id, n.home_batch, coalesce(o.home_batch, '') AS old_home
    FROM clip_homes_now n
    LEFT JOIN clip_homes o ON o.clip_id = n.clip_id
    WHERE n.clip_id IN (
      SELECT clip_id FROM touched
      UNION ALL
      SELECT c.clip_id FROM clips c WHERE c.source_clip_id IN (SELECT clip_id FROM touched)
    ) AND o.home_batch IS DISTINCT FROM n.home_batch
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
    left = _move_homes(connection, tables)
    if left or "windows" in tables:
        _move_rows(connection, left or [NO_HOME])
    touched = [sql for table, sql in _CLIPS_OF_NEW_ROWS.items() if table in tables]
    if left:
        touched.append("SELECT clip_id FROM moved_clips")
    stale = [sql for table, sql in _BATCHES_OF_NEW_ROWS.items() if table in tables]
    if touched:
        stale.append(_HOLDERS.format(touched=_all_of(touched)))
    if stale:
        found = connection.execute(f"SELECT DISTINCT batch FROM ({_all_of(stale)}) s(batch)").fetchall()
        _make_again(connection, [batch for (batch,) in found])


def make_homes(connection: duckdb.DuckDBPyConnection) -> None:
    """Fill `clip_homes`, once uploads and clips are there."""
    connection.execute("INSERT INTO clip_homes FROM clip_homes_now")


def make_all(connection: duckdb.DuckDBPyConnection) -> None:
    """Fill the tables by batch, once all else is there."""
    for name in BY_BATCH:
        connection.execute(f"INSERT INTO {name} FROM {name}_now")


def _move_homes(connection: duckdb.DuckDBPyConnection, tables: Collection[str]) -> list[str]:
    """Correct `clip_homes`; put the clips that are new there, or moved, into `moved_clips`; return the homes left."""
    new = [f"SELECT clip_id FROM new_{table}" for table in ("uploads", "clips") if table in tables]
    if not new:
        return []
    connection.execute(_CHANGED_HOMES.format(touched=_all_of(new)))
    left = [home for (home,) in connection.execute("SELECT DISTINCT old_home FROM moved_clips").fetchall()]
    if left:
        connection.execute("DELETE FROM clip_homes WHERE clip_id IN (SELECT clip_id FROM moved_clips)")
        connection.execute("INSERT INTO clip_homes SELECT clip_id, home_batch FROM moved_clips")
    return left


def _move_rows(connection: duckdb.DuckDBPyConnection, left: Sequence[str]) -> None:
    """Give the rows that stand in the homes `left` that of their clip: it came after them, or was held earlier."""
    tables = {table.name: table.about for table in TABLES.values() if table.about}
    found = " UNION ALL ".join(
        f"SELECT '{name}' WHERE EXISTS (FROM {name} WHERE home_batch IN (SELECT unnest($left)))" for name in tables
    )
    there = {name for (name,) in connection.execute(found, {"left": left}).fetchall()}
    for name in (name for name in tables if name in there):  # in the order of TABLES: windows before what is about them
        other, key = ("clip_homes", "clip_id") if tables[name] == "clip" else ("windows", "window_id")
        connection.execute(
            f"""
            UPDATE {name} t SET home_batch = o.home_batch FROM {other} o
            WHERE t.home_batch IN (SELECT unnest($left)) AND o.{key} = t.{key} AND o.home_batch <> t.home_batch
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
