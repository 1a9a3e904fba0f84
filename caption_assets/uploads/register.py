"""From an inspected file to its rows: `uploads` for the file, `clips` for its content and for each part of it."""

from dataclasses import dataclass, replace
from datetime import datetime

from caption_assets import ids
from caption_assets.ids import RecipeId
from caption_assets.ledger.schema import ClipRow, ClipSetRow, UploadRow
from caption_assets.uploads.batches import FoundFile
from caption_assets.uploads.inspect import Inspected
from caption_assets.video.probe import ClipFacts
from caption_assets.video.split_job import FileSplit
from caption_assets.video.splitting import PartFacts


@dataclass(frozen=True)
class Beside:
    """What the sidecars of a file hold. columns: texts by their keys, as JSON."""

    original_caption: str | None = None
    columns: str | None = None


def upload_row(
    batch: str,
    file: FoundFile,
    inspected: Inspected | None,
    problem: str | None,
    beside: Beside,
    recipe: RecipeId,
    run_id: str,
    now: datetime,
) -> UploadRow:
    """Return the row of a file: ok with its clip, or quarantined with `problem` or what inspection found.

    beside: what its sidecars hold. A note on an ok file (it is truncated, say) stands in `error` too, so
    that no reader misses it.
    """
    facts = inspected.facts if inspected else None
    reason = problem or (inspected.problem if inspected else None)
    sha256 = (inspected.sha256 or None) if inspected else None
    clip = ids.clip_id(sha256) if facts is not None and sha256 else None
    return UploadRow(
        batch=batch,
        path=file.path,
        bytes=file.bytes,
        mtime_ns=file.mtime_ns,
        sha256=sha256,
        clip_id=clip,
        status="ok" if clip else "quarantined",
        error=reason or ("; ".join(facts.notes) or None if facts else None),
        original_caption=beside.original_caption,
        columns=beside.columns,
        sidecar_mtime_ns=file.sidecar_mtime_ns,
        columns_mtime_ns=file.columns_mtime_ns,
        recipe_id=recipe,
        run_id=run_id,
        created_at=now,
    )


def clip_row(sha256: str, facts: ClipFacts, recipe: RecipeId, run_id: str, now: datetime) -> ClipRow:
    """Return the row of a clip's content."""
    names = (
        "bytes", "container", "codec", "pix_fmt", "bit_depth", "n_frames", "declared_frames", "first_pts_s",
        "duration_s", "fps", "is_vfr", "width", "height", "rotation", "display_width", "display_height", "color_range",
        "color_space", "color_primaries", "color_transfer", "has_audio", "n_key_frames",
    )  # fmt: skip
    ratio = facts.sample_aspect_ratio
    return ClipRow(
        clip_id=ids.clip_id(sha256),
        recipe_id=recipe,
        video_sha256=sha256,
        **{name: getattr(facts, name) for name in names},
        sample_aspect_ratio=f"{ratio.numerator}:{ratio.denominator}",
        flags=list(facts.flags),
        notes=list(facts.notes),
        run_id=run_id,
        created_at=now,
    )


def split_rows(
    source: ClipRow, split: FileSplit, recipe: RecipeId, run_id: str, now: datetime
) -> tuple[list[ClipRow], ClipSetRow]:
    """Return the rows of the clips that a file was split into, and its manifest row in `clip_sets`.

    source: the row of the whole file in `clips`. A file with nothing to split off stays the clip that it is.
    """
    whole = replace(source, recipe_id=recipe, run_id=run_id, created_at=now)
    clips = [whole] if len(split.parts) == 1 else [_of_part(whole, part) for part in split.parts]
    manifest = ClipSetRow(
        source_clip_id=source.clip_id,
        recipe_id=recipe,
        n_clips=len(clips),
        clip_ids=[clip.clip_id for clip in clips],
        status="ok" if split.problem is None else "error",
        error=split.problem,
        run_id=run_id,
        created_at=now,
    )
    return clips, manifest


def _of_part(source: ClipRow, facts: PartFacts) -> ClipRow:
    """Return the row of a part of the file `source`."""
    part = facts.part
    return replace(
        source,
        clip_id=ids.clip_id(source.video_sha256, (part.start, part.end)),
        n_frames=facts.n_frames,
        declared_frames=0,
        first_pts_s=facts.first_pts_s,
        duration_s=facts.end_s - facts.start_s,
        fps=facts.fps,
        is_vfr=facts.is_vfr,
        flags=[*(["vfr"] if facts.is_vfr else []), *(flag for flag in source.flags if flag != "vfr")],
        notes=[],
        source_clip_id=source.clip_id,
        source_start_frame=part.start,
        source_end_frame=part.end,
        source_start_s=facts.start_s,
        source_end_s=facts.end_s,
        cut_score=part.score,
    )
