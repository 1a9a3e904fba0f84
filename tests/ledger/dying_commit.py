"""Commits that are killed: `python dying_commit.py ROOT`.

It reads lines `ACT NAME STATEMENTS`, forks for each, and prints what became of the child: `killed`, or `lived N` with
the number of statements that DuckDB was given. The child does `ACT` and kills itself when DuckDB has done the given
number of statements. The product knows nothing of this.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import polars  # noqa: F401 - what every child needs, imported once

from caption_assets.ledger import backup, duckdb_store
from caption_assets.ledger.database import Ledger
from caption_assets.ledger.schema import (
    ActiveRecipeRow,
    CandidateRow,
    ClipRow,
    DecisionRow,
    RecipeRow,
    Record,
    UploadRow,
    WindowRow,
    WindowSetRow,
)
from caption_assets.root import RootFolder

from .story import row_of

WINDOWS = 4


def rows_of(name: str) -> list[Record]:
    """Return a commit over eight tables that makes `WINDOWS` captions in the batch `name`."""
    made: list[Record] = [
        row_of(RecipeRow, recipe_id=f"r{kind}", kind=kind, params='{"split": "none"}')
        for kind in ("window", "caption", "split")
    ]
    made += [row_of(ActiveRecipeRow, kind=kind, batch=name, recipe_id=f"r{kind}") for kind in ("window", "caption")]
    made += [row_of(UploadRow, batch=name, path="1.mp4", clip_id=name, status="ok"), row_of(ClipRow, clip_id=name)]
    made.append(row_of(WindowSetRow, clip_id=name, recipe_id="rwindow", n_windows=WINDOWS, status="ok"))
    for index in range(WINDOWS):
        window, candidate = f"{name} window {index}", f"{name} candidate {index}"
        made += [
            row_of(WindowRow, window_id=window, clip_id=name, recipe_id="rwindow", status="ok", start_frame=index),
            row_of(CandidateRow, candidate_id=candidate, window_id=window, recipe_id="rcaption", text=candidate),
            row_of(
                DecisionRow, decision_id=f"{name} {index}", candidate_id=candidate, window_id=window,
                recipe_id="rcaption", action="keep", decided_by="policy",
            ),
        ]  # fmt: skip
    return made


class Counting:
    """A DuckDB connection that kills the process after some statements, and counts them."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, after: Callable[[], None]):
        self._connection = connection
        self._after = after

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def __enter__(self) -> "Counting":
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def cursor(self) -> "Counting":
        return Counting(self._connection.cursor(), self._after)

    def execute(self, *arguments: Any) -> Any:
        done = self._connection.execute(*arguments)
        self._after()
        return done


def act(root: Path, what: str, name: str, statements: int) -> int:
    """Do it in this process, and die after so many statements; return how many there were."""
    count = 0

    def after() -> None:
        nonlocal count
        count += 1
        if count == statements:
            os.kill(os.getpid(), signal.SIGKILL)

    memory = duckdb_store._memory
    duckdb_store._memory = lambda: Counting(memory(), after)  # type: ignore[assignment,return-value]
    folder = RootFolder.at(root)
    if what == "commit":
        Ledger(folder).commit(rows_of(name))
    else:
        backup.restore(folder, root / name)
    return count


def main(root: Path) -> None:
    for line in sys.stdin:
        what, name, statements = line.split()
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(writer, b"%d" % act(root, what, name, int(statements)))
            os._exit(0)
        os.close(writer)
        _, status = os.waitpid(child, 0)
        said = os.read(reader, 100).decode()
        os.close(reader)
        code = os.waitstatus_to_exitcode(status)
        print("killed" if code == -signal.SIGKILL else f"lived {said}" if code == 0 else f"failed {code}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
