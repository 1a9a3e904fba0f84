"""Asset checks: claims about the ledger that every run proves for its batches.

A check that is started alone, from the asset's page, proves its claim for all batches.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence

import dagster as dg

from caption_assets.assets.caption_table import caption_table
from caption_assets.assets.previews import previews
from caption_assets.assets.raw_clips import raw_clips
from caption_assets.assets.vl_captions import vl_captions
from caption_assets.assets.windows import windows
from caption_assets.exchange.table import FORMATS
from caption_assets.orchestration.metadata import sample_table
from caption_assets.orchestration.partitions import video_batches
from caption_assets.orchestration.resources import RootResource
from caption_assets.video.preview import check_preview

Fault = Mapping[str, object]

SINGLE, FIRST, LAST = "dagster/partition", "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"


def batches_of(context: dg.AssetCheckExecutionContext, root: RootResource) -> list[str]:
    """Return the batches of the run, or every batch of the ledger where the run has none."""
    tags = context.run.tags
    if SINGLE in tags:
        return [tags[SINGLE]]
    if FIRST in tags and LAST in tags:
        keys = list(context.instance.get_dynamic_partitions(str(video_batches.name)))
        return keys[keys.index(tags[FIRST]) : keys.index(tags[LAST]) + 1]
    return [str(row["batch"]) for row in root.ledger.named("known_batches")]


def _result(batches: Sequence[str], faults: Sequence[Fault]) -> dg.AssetCheckResult:
    metadata: dict[str, dg.MetadataValue | int] = {"batches": len(batches), "faults": len(faults)}
    if faults:
        metadata["what is wrong"] = sample_table(faults, list(faults[0]))
    return dg.AssetCheckResult(passed=not faults, metadata=metadata)


def _by_query(context: dg.AssetCheckExecutionContext, root: RootResource, name: str) -> dg.AssetCheckResult:
    batches = batches_of(context, root)
    faults = [{"batch": batch, **row} for batch in batches for row in root.ledger.named(name, batch=batch)]
    return _result(batches, faults)


@dg.asset_check(asset=raw_clips, description="Every frame of every file that was split is in exactly one clip.")
def clips_partition_files(context: dg.AssetCheckExecutionContext, root: RootResource) -> dg.AssetCheckResult:
    """Prove that clips neither overlap nor leave a gap."""
    return _by_query(context, root, "check_clips_partition_files")


@dg.asset_check(asset=windows, description="Every frame of every clip is in exactly one window.")
def windows_partition_clips(context: dg.AssetCheckExecutionContext, root: RootResource) -> dg.AssetCheckResult:
    """Prove that windows neither overlap nor leave a gap."""
    return _by_query(context, root, "check_windows_partition_clips")


@dg.asset_check(asset=vl_captions, description="Every live window has all candidates that its recipe asks for.")
def windows_have_candidates(context: dg.AssetCheckExecutionContext, root: RootResource) -> dg.AssetCheckResult:
    """Prove that no window was left out."""
    return _by_query(context, root, "check_windows_have_candidates")


@dg.asset_check(asset=vl_captions, description="Every candidate has exactly one verdict in the decision in force.")
def one_decision_per_candidate(context: dg.AssetCheckExecutionContext, root: RootResource) -> dg.AssetCheckResult:
    """Prove that each candidate was judged, and once."""
    return _by_query(context, root, "check_one_decision_per_candidate")


@dg.asset_check(asset=vl_captions, description="Every request had as many tokens as were reckoned before it was sent.")
def tokens_as_reckoned(context: dg.AssetCheckExecutionContext, root: RootResource) -> dg.AssetCheckResult:
    """Prove that the token budget holds, wherever both counts are known."""
    return _by_query(context, root, "check_tokens_as_reckoned")


@dg.asset_check(asset=previews, description="Every preview and its poster is there and every picture in it decodes.")
def previews_decode(context: dg.AssetCheckExecutionContext, root: RootResource) -> dg.AssetCheckResult:
    """Prove that each preview file is the one that was recorded, by decoding it."""
    batches = batches_of(context, root)
    rows = [{"batch": batch, **row} for batch in batches for row in root.ledger.named("batch_previews", batch=batch)]
    faults = [{**_named(row), "fault": fault} for row in rows if (fault := _preview_fault(root, row)) is not None]
    return _result(batches, faults)


@dg.asset_check(asset=caption_table, description="Where on_drift is fallback, no text that drifted is exported.")
def no_drifted_text_is_shown(context: dg.AssetCheckExecutionContext, root: RootResource) -> dg.AssetCheckResult:
    """Prove that what consumers read holds no text that failed its drift check, or was never checked.

    The exported file is compared with the checks themselves, not with the query that wrote it.
    """
    batches = batches_of(context, root)
    faults: list[Fault] = []
    for batch in batches:
        exported = root.folder.exports(batch) / FORMATS["jsonl"][0]
        if not exported.is_file():
            continue
        drifted = {
            (row["candidate_id"], row["text"]): row["reason"]
            for row in root.ledger.named("check_no_drifted_text_is_shown", batch=batch)
        }
        for row in map(json.loads, exported.read_text(encoding="utf-8").split("\n")[:-1]):
            reason = drifted.get((row["candidate_id"], row["enhanced_caption"]))
            if reason is not None and row["enhanced_caption"] != row["caption"]:
                where = {"batch": batch, "path": row["clip_path"], "window_index": row["window_index"]}
                faults.append({**where, "enhanced_caption": row["enhanced_caption"], "reason": reason})
    return _result(batches, faults)


def _named(row: Fault) -> dict[str, object]:
    return {name: row[name] for name in ("batch", "path", "window_index", "uri")}


def _preview_fault(root: RootResource, row: Fault) -> str | None:
    if row["status"] != "ok":
        return str(row["error"] or "there is no preview")
    try:
        data = (root.folder.path / str(row["uri"])).read_bytes()
        width, height, n_frames = check_preview(data)
    except (OSError, ValueError) as fault:
        return str(fault)
    recorded = (row["width"], row["height"], row["n_frames"])
    if (width, height, n_frames) != recorded:
        return f"it has {width}x{height} pixels and {n_frames} pictures, recorded are {recorded}"
    if hashlib.sha256(data).hexdigest() != row["sha256"]:
        return "its bytes are not the ones that were recorded"
    return _poster_fault(root, row)


def _poster_fault(root: RootResource, row: Fault) -> str | None:
    if row["poster_uri"] is None:
        return "it has no poster"
    try:
        data = (root.folder.path / str(row["poster_uri"])).read_bytes()
    except OSError as fault:
        return f"its poster: {fault}"
    if hashlib.sha256(data).hexdigest() != row["poster_sha256"]:
        return "the bytes of its poster are not the ones that were recorded"
    return None


ASSET_CHECKS = [
    clips_partition_files,
    windows_partition_clips,
    windows_have_candidates,
    one_decision_per_candidate,
    tokens_as_reckoned,
    previews_decode,
    no_drifted_text_is_shown,
]
