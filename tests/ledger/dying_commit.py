"""A process that commits and kills itself on the way: `python dying_commit.py ROOT POINT`.

The points are reached by watching what the commit calls; the product knows nothing of them. "none" lives to the end.
"""

import os
import signal
import sys
from contextlib import contextmanager
from pathlib import Path

from caption_assets.ledger import database, parts
from caption_assets.ledger.database import Ledger
from caption_assets.root import RootFolder

from .story import row_of

WINDOWS = 4
POINTS = (
    "after the first temporary part",
    "after the temporary parts",
    "inside the transaction",
    "after the marker",
    "after the first rename",
    "after all renames",
    "after the commit",
)


def rows() -> dict[str, list[dict[str, object]]]:
    """Return a commit over three tables; window_sets is renamed last."""
    return {
        "window_sets": [row_of("window_sets", clip_id="c", recipe_id="r", n_windows=WINDOWS, status="ok")],
        "windows": [row_of("windows", window_id=f"w{i}", clip_id="c", recipe_id="r") for i in range(WINDOWS)],
        "clips": [row_of("clips", clip_id="c", recipe_id="r")],
    }


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def calls_until_death(function, calls: int):  # type: ignore[no-untyped-def]
    """Return `function`, which kills the process once it has been called so often."""
    left = [calls]

    def watched(*args, **kwargs):  # type: ignore[no-untyped-def]
        result = function(*args, **kwargs)
        left[0] -= 1
        if left[0] == 0:
            die()
        return result

    return watched


def arrange(point: str) -> None:
    if point == "after the first temporary part":
        parts.write_temporary_part = calls_until_death(parts.write_temporary_part, 1)
    elif point == "after the temporary parts":
        parts.write_temporary_part = calls_until_death(parts.write_temporary_part, 3)
    elif point == "inside the transaction":
        database._insert = calls_until_death(database._insert, 2)
    elif point == "after the marker":
        Ledger._mark_pending = calls_until_death(Ledger._mark_pending, 1)  # type: ignore[method-assign]
    elif point == "after the first rename":
        Path.rename = calls_until_death(Path.rename, 1)  # type: ignore[method-assign]
    elif point == "after all renames":
        Path.rename = calls_until_death(Path.rename, 3)  # type: ignore[method-assign]
    elif point == "after the commit":
        transaction = database._transaction

        @contextmanager
        def watched(connection):  # type: ignore[no-untyped-def]
            with transaction(connection):
                yield
            die()

        database._transaction = watched
    elif point == "inside a rebuild":
        Path.replace = lambda *_: die()  # type: ignore[method-assign]
    else:
        assert point == "none", point


if __name__ == "__main__":
    root, chosen = sys.argv[1:]
    ledger = Ledger(RootFolder.at(root))
    arrange(chosen)
    if chosen == "inside a rebuild":
        ledger.rebuild()
    ledger.commit("dying", "b", rows())
    print("acknowledged", flush=True)
