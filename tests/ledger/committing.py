"""What each of several processes does at once: `python committing.py ROOT NAME SECONDS`.

It commits to a batch of its own, to one that all share, and rows that the others commit too. It prints the key of a row
only after the commit returned.
"""

import sys
import time

from caption_assets.ledger.database import Ledger
from caption_assets.root import RootFolder

from .story import row_of

if __name__ == "__main__":
    root, name, seconds = sys.argv[1:]
    ledger = Ledger(RootFolder.at(root))
    print("ready", flush=True)
    sys.stdin.readline()
    end = time.monotonic() + float(seconds)
    count = 0
    while time.monotonic() < end:
        own = f"{name}-{count}"
        shared = f"shared-{count}"
        rows = {
            "windows": [
                row_of("windows", window_id=own, clip_id=name),
                row_of("windows", window_id=shared, clip_id=name),
            ],
            "window_sets": [row_of("window_sets", clip_id=own, recipe_id="r", run_id=name)],
        }
        ledger.commit("one run", "shared" if count % 2 else name, rows)
        print(own, flush=True)
        count += 1
