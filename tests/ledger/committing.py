"""What each of several processes does at once: `python committing.py ROOT NAME COMMITS`.

It commits to a batch of its own, to one that all share, and rows that the others commit too. It prints the name of a
clip only after the commit returned.
"""

import sys

from caption_assets.ledger.database import Ledger
from caption_assets.ledger.schema import ClipRow, Record, UploadRow, WindowRow, WindowSetRow
from caption_assets.root import RootFolder

from .story import row_of


def clip_rows(clip: str, batch: str) -> list[Record]:
    """Return the rows of a clip with one window."""
    return [
        row_of(UploadRow, batch=batch, path=f"{clip}.mp4", clip_id=clip, status="ok"),
        row_of(ClipRow, clip_id=clip, n_frames=256),
        row_of(WindowRow, window_id=f"window of {clip}", clip_id=clip, recipe_id="r", status="ok"),
        row_of(WindowSetRow, clip_id=clip, recipe_id="r", n_windows=1, status="ok"),
    ]


if __name__ == "__main__":
    root, name, commits = sys.argv[1:]
    ledger = Ledger(RootFolder.at(root))
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(int(commits)):
        own, shared = f"{name}-{number}", f"shared-{number}"
        ledger.commit([*clip_rows(own, "shared" if number % 2 else name), *clip_rows(shared, "shared")])
        print(own, flush=True)
