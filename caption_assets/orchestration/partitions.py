"""One partition is one video batch: a folder below `uploads/`."""

import dagster as dg

video_batches = dg.DynamicPartitionsDefinition(name="video_batch")
