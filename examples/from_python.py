"""Caption a folder from Python, and read the table.

python examples/from_python.py FOLDER [ROOT]     ROOT: where uploads, ledger and results live; ./data by default
"""

import sys
from pathlib import Path

import polars as pl

from caption_assets import Ledger, RootFolder, Settings, run_batch

BATCH = "from-python"


def main(folder: str, location: str = "./data") -> int:
    """Caption every file in `folder` with two candidates a window, of which the longest is kept."""
    root = RootFolder.at(location)
    settings = Settings.load().with_overrides(["caption.caption_num=2", "retention.keep_candidate_mode=longest"])
    status = run_batch([Path(folder)], BATCH, "signal", root, settings)

    table = pl.read_parquet(root.exports(BATCH) / "captions.parquet")
    for row in table.select("clip_path", "start_s", "end_s", "caption").iter_rows(named=True):
        print(f"{row['clip_path']} {row['start_s']:.1f} to {row['end_s']:.1f} s: {row['caption']}")

    # The ledger also knows the candidates that were not kept, and why.
    reasons = Ledger(root).query(
        "SELECT action, reason_code, count(*) AS n FROM retention_decisions GROUP BY ALL ORDER BY action, n DESC"
    )
    for row in reasons:
        print(f"{row['action']} {row['reason_code']}: {row['n']}")
    return status


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
