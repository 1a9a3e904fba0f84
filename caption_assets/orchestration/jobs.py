"""The main job: all six assets of a batch, with their checks."""

import dagster as dg

from caption_assets.orchestration.declare import GROUP

caption_batch = dg.define_asset_job(
    "caption_batch",
    selection=dg.AssetSelection.groups(GROUP),
    description="Uploaded video of one batch, from files to the caption table.",
)
