"""Asset checks: claims about the ledger that every run proves for its batches.

A check that is started alone, from the asset's page, proves its claim for all batches.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from pathlib import Path

import dagster as dg

from caption_assets.assets.caption_table import caption_table
from caption_assets.assets.previews import previews
from caption_assets.assets.raw_clips import raw_clips
from caption_assets.assets.vl_captions import vl_captions
from caption_assets.assets.windows import windows
from caption_assets.exchange.table import FORMATS
from caption_assets.ledger.schema import PreviewRow
from caption_assets.ledger.store import Session
from caption_assets.orchestration.metadata import sample_table
from caption_assets.orchestration.partitions import video_batches
from caption_assets.orchestration.resources import RootResource
from caption_assets.pipeline import claims
from caption_assets.pipeline.claims import Fault
from caption_assets.pipeline.previews import read_previewed
from caption_assets.video.webp import check_webp

SINGLE, FIRST, LAST = "dagster/partition", "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"


def batches_of(context: dg.AssetCheckExecutionContext, root: RootResource) -> list[str]:
    """Return the batches of the run, or every batch of the ledger where the run has none."""
    tags = context.run.tags
    if SINGLE in tags:
        return [tags[SINGLE]]
    if FIRST in tags and LAST in tags:
        keys = list(context.instance.get_dynamic_partitions(str(video_batches.name)))
        return keys[keys.index(tags[FIRST]) : keys.index(tags[LAST]) + 1]
    with root.ledger.session() as session:
        return [batch for (batch,) in session.rows("SELECT DISTINCT batch FROM uploads ORDER BY batch")]


def _result(batches: Sequence[str], faults: Sequence[Fault]) -> dg.AssetCheckResult:
    metadata: dict[str, dg.MetadataValue | int] = {"batches": len(batches), "faults": len(faults)}
    if faults:
        names = [field.name for field in fields(Fault)]
        metadata["what is wrong"] = sample_table([asdict(fault) for fault in faults], names)
    return dg.AssetCheckResult(passed=not faults, metadata=metadata)


def _prove(
    context: dg.AssetCheckExecutionContext, root: RootResource, claim: Callable[[Session, str], list[Fault]]
) -> dg.AssetCheckResult:
    batches = batches_of(context, root)
    return _result(batches, [fault for batch in batches for fault in root.ledger.read(claim, batch)])


@dg.asset_check(asset=raw_clips, description="Every frame of every file that was split is in exactly one clip.")
def clips_partition_files(context: dg.AssetCheckExecutionContext, root: RootResource) -> dg.AssetCheckResult:
    """Prove that clips neither overlap nor leave a gap."""
    return _prove(context, root, claims.clips_partition_files)


@dg.asset_check(asset=windows, description="Every frame of every clip is in exactly one window.")
def windows_partition_clips(context: dg.AssetCheckExecutionContext, root: RootResource) -> dg.AssetCheckResult:
    """Prove that windows neither overlap nor leave a gap."""
    return _prove(context, root, claims.windows_partition_clips)


@dg.asset_check(asset=vl_captions, description="Every live window has all candidates that its recipe asks for.")
def windows_have_candidates(context: dg.AssetCheckExecutionContext, root: RootResource) -> dg.AssetCheckResult:
    """Prove that no window was left out."""
    return _prove(context, root, claims.windows_have_candidates)


@dg.asset_check(asset=vl_captions, description="Every candidate has exactly one verdict in the decision in force.")
def one_decision_per_candidate(context: dg.AssetCheckExecutionContext, root: RootResource) -> dg.AssetCheckResult:
    """Prove that each candidate was judged, and once."""
    return _prove(context, root, claims.one_decision_per_candidate)


@dg.asset_check(asset=vl_captions, description="Every request had as many tokens as were expected before it was sent.")
def tokens_as_reckoned(context: dg.AssetCheckExecutionContext, root: RootResource) -> dg.AssetCheckResult:
    """Prove that the token budget holds, wherever both counts are known."""
    return _prove(context, root, claims.tokens_as_expected)


@dg.asset_check(asset=previews, description="Every preview and its poster exists and every picture in it decodes.")
def previews_decode(context: dg.AssetCheckExecutionContext, root: RootResource) -> dg.AssetCheckResult:
    """Prove that each preview file is the one that was recorded, by decoding it."""
    batches, folder = batches_of(context, root), root.folder.path
    faults = [
        Fault(batch, window.row.clip_name, window.row.window_index, fault)
        for batch in batches
        for window in root.ledger.read(read_previewed, batch)
        if (fault := _preview_fault(folder, window.preview)) is not None
    ]
    return _result(batches, faults)


@dg.asset_check(asset=caption_table, description="Where on_drift is fallback, no text that drifted is exported.")
def no_drifted_text_is_shown(context: dg.AssetCheckExecutionContext, root: RootResource) -> dg.AssetCheckResult:
    """Prove that what consumers read holds no text that failed its drift check, or was never checked.

    The exported file is compared with the checks themselves, not with the table that it was written from.
    """
    batches = batches_of(context, root)
    faults = []
    for batch in batches:
        exported = root.folder.exports(batch) / FORMATS["jsonl"][0]
        if not exported.is_file():
            continue
        drifted = root.ledger.read(claims.drifted_texts, batch)
        for row in map(json.loads, exported.read_text(encoding="utf-8").split("\n")[:-1]):
            reason = drifted.get((row["candidate_id"], row["enhanced_caption"]))
            if reason is not None and row["enhanced_caption"] != row["caption"]:
                shown = f"{row['enhanced_caption']!r} is shown: {reason}"
                faults.append(Fault(batch, row["clip_path"], row["window_index"], shown))
    return _result(batches, faults)


def _preview_fault(folder: Path, preview: PreviewRow | None) -> str | None:
    """Return what is wrong with the files of a preview, below the root `folder`."""
    if preview is None or preview.status != "ok":
        return (preview and preview.error) or "there is no preview"
    try:
        data = (folder / str(preview.uri)).read_bytes()
        width, height, n_frames = check_webp(data)
    except (OSError, ValueError) as fault:
        return str(fault)
    recorded = (preview.width, preview.height, preview.n_frames)
    if (width, height, n_frames) != recorded:
        return f"it has {width}x{height} pixels and {n_frames} pictures, recorded are {recorded}"
    if hashlib.sha256(data).hexdigest() != preview.sha256:
        return "its bytes are not the ones that were recorded"
    return _poster_fault(folder, preview)


def _poster_fault(folder: Path, preview: PreviewRow) -> str | None:
    if preview.poster_uri is None:
        return "it has no poster"
    try:
        data = (folder / preview.poster_uri).read_bytes()
    except OSError as fault:
        return f"its poster: {fault}"
    if hashlib.sha256(data).hexdigest() != preview.poster_sha256:
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
