"""How many candidates gates stopped, batch by batch: from what the materializations of vl_captions say."""

from collections.abc import Mapping

import dagster as dg

from caption_assets.orchestration.metadata import stacked_bars

GATE = "gate "
"""What the name of a gate's number in the metadata begins with; Dagster plots each over the batches too."""

MAX_BATCHES = 24


def gate_numbers(counts: Mapping[str, int]) -> dict[str, dg.MetadataValue | str]:
    """Return a number of metadata for each gate, also where it stopped nothing."""
    return {f"{GATE}{name}": dg.MetadataValue.int(count) for name, count in counts.items()}


def gates_over_batches(
    instance: dg.DagsterInstance, asset: dg.AssetKey, batch: str, counts: Mapping[str, int]
) -> dg.MarkdownMetadataValue:
    """Return a picture of what each gate stopped in the batches that were run last, this one at the right."""
    found: dict[str, Mapping[str, int]] = {batch: counts}
    for record in instance.fetch_materializations(asset, limit=MAX_BATCHES).records:
        event = record.asset_materialization
        if event is not None and event.partition is not None and len(found) < MAX_BATCHES:
            found.setdefault(event.partition, _read(event))
    return stacked_bars(dict(reversed(found.items())))


def _read(event: dg.AssetMaterialization) -> dict[str, int]:
    return {
        name.removeprefix(GATE): int(str(value.value))
        for name, value in event.metadata.items()
        if name.startswith(GATE) and value.value
    }
