"""The caption graph inside a Dagster project of your own, with an asset that reads its captions.

dagster dev -f examples/inside_dagster.py          the graph in the UI; batches are folders in ./data/uploads
python examples/inside_dagster.py BATCH [ROOT]     run everything on one of them, without the UI
"""

import sys
from collections import Counter

import dagster as dg
import polars as pl

from caption_assets import definitions
from caption_assets.assets.caption_table import caption_table
from caption_assets.orchestration.partitions import video_batches
from caption_assets.orchestration.resources import RootResource


@dg.asset(deps=[caption_table], partitions_def=video_batches, group_name="search")
def frequent_words(context: dg.AssetExecutionContext, root: RootResource) -> dg.MaterializeResult[None]:
    """The words that the captions of a batch use most. Any asset of yours may follow the table."""
    batch = context.partition_key
    table = pl.read_parquet(root.folder.exports(batch) / "captions.parquet")
    captions = table["caption"].drop_nulls().to_list()
    counts = Counter(word.strip(",.").lower() for caption in captions for word in caption.split())
    frequent = dict(counts.most_common(8))
    print(f"{batch}: {', '.join(frequent)}")
    return dg.MaterializeResult(metadata={"captions": len(captions), "words": frequent})


defs = dg.Definitions.merge(definitions.defs, dg.Definitions(assets=[frequent_words]))


def main(batch: str, location: str = "./data") -> int:
    """Materialize every asset of `defs` on one batch."""
    config = {
        "resources": {"root": {"config": {"path": location}}, "engine": {"config": {"engine": "signal"}}},
        "loggers": {"console": {"config": {"log_level": "WARNING"}}},
    }
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(str(video_batches.name), [batch])
        job = defs.resolve_implicit_global_asset_job_def()
        result = job.execute_in_process(partition_key=batch, instance=instance, run_config=config)
    return 0 if result.success else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
