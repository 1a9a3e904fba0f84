"""The whole graph.

uploads/<batch>/*.mp4                    one partition = one video batch
     │  sensor new_uploads
     ▼
raw_clips ──► windows ──┬──► vl_captions ──► enhanced_captions ──┐
                        └──► previews ──────────────────────────┴──► caption_table
"""

import dagster as dg

from caption_assets.assets.caption_table import caption_table
from caption_assets.assets.checks import ASSET_CHECKS
from caption_assets.assets.enhanced_captions import enhanced_captions
from caption_assets.assets.previews import previews
from caption_assets.assets.raw_clips import raw_clips
from caption_assets.assets.vl_captions import vl_captions
from caption_assets.assets.windows import windows
from caption_assets.orchestration.jobs import caption_batch
from caption_assets.orchestration.resources import EngineResource, RootResource, settings_resource
from caption_assets.orchestration.sensor import new_uploads_sensor
from caption_assets.settings import Settings

defs = dg.Definitions(
    assets=[raw_clips, windows, vl_captions, enhanced_captions, previews, caption_table],
    asset_checks=ASSET_CHECKS,
    jobs=[caption_batch],
    sensors=[new_uploads_sensor(caption_batch.name)],
    resources={
        "root": RootResource(),
        "settings": settings_resource(Settings.load()),
        "engine": EngineResource(),
    },
    # All assets of a run share one process, so that a model is loaded once; decoding has worker processes of its own.
    executor=dg.in_process_executor,
)
