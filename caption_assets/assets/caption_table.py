"""caption_table: the joined, exported answer."""

from dataclasses import asdict
from pathlib import Path

import dagster as dg

from caption_assets.assets.enhanced_captions import enhanced_captions
from caption_assets.assets.previews import previews
from caption_assets.exchange.table import COLUMNS, FORMATS, json_line, write_tables
from caption_assets.orchestration.declare import video_batch_asset
from caption_assets.orchestration.metadata import MAX_SAMPLES, sample_table
from caption_assets.orchestration.resources import RootResource
from caption_assets.orchestration.stage import stage


@video_batch_asset(
    kinds={"parquet", "json"},
    table=None,
    code_kind=None,
    code_version="3",
    columns=COLUMNS,
    deps=[enhanced_captions, previews],
)
def caption_table(context: dg.AssetExecutionContext, root: RootResource) -> None:
    """One row per window with its caption, its enhanced caption, its preview and everything that made them.

    Written to the folder of the batch in `exports/` as Parquet and as JSON lines. A query over the ledger: nothing is
    computed here.
    """
    for batch in context.partition_keys:
        with stage(context, root, "caption_table", batch, "row") as run:
            folder = run.root.exports(batch)
            unchanged = _lines(folder / FORMATS["jsonl"][0])
            rows = write_tables(run.root, run.ledger, batch)
            run.expected = len(rows)
            run.failed = sum(row.status != "captioned" for row in rows)
            run.reused = sum(row.status == "captioned" and json_line(row) in unchanged for row in rows)
            run.new = run.expected - run.failed - run.reused
            shown = ("clip_path", "window_index", "start_s", "end_s", "caption", "enhanced_caption", "enhanced_status",
                     "status", "error")  # fmt: skip
            files = ", ".join(run.root.relative(folder / name) for name, _ in FORMATS.values())
            table = sample_table([asdict(row) for row in rows[:MAX_SAMPLES]], shown)
            run.metadata |= {"rows": table, "files": files, "folder": dg.MetadataValue.path(folder)}


def _lines(path: Path) -> set[str]:
    return set(path.read_text(encoding="utf-8").split("\n")) if path.is_file() else set()
