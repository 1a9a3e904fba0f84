"""Making one window's preview, in a worker process: packed frames in, an animated WebP file out."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from caption_assets.ids import WindowId
from caption_assets.video.frame_store import FramesUnavailable, load_frames
from caption_assets.video.preview import PreviewRule, make_preview


@dataclass(frozen=True)
class PreviewJob:
    """A window to show. Times are seconds from the clip's first frame; the source is the clip as shown."""

    window_id: WindowId
    pack: Path
    target: Path
    start_s: float
    end_s: float
    rule: PreviewRule
    source_fps: float
    source_width: int
    source_height: int


@dataclass(frozen=True)
class MadePreview:
    """The file that was written, or the `problem` that kept it from being."""

    sha256: str = ""
    bytes: int = 0
    width: int = 0
    height: int = 0
    n_frames: int = 0
    warnings: tuple[str, ...] = ()
    problem: str | None = None


def write_preview(job: PreviewJob) -> MadePreview:
    """Write the preview to its target, under a temporary name first."""
    try:
        frames = load_frames(job.pack)
        preview = make_preview(
            frames,
            job.start_s,
            job.end_s,
            job.rule,
            source_fps=job.source_fps,
            source_width=job.source_width,
            source_height=job.source_height,
        )
    except (FramesUnavailable, OSError, ValueError) as fault:
        return MadePreview(problem=str(fault))
    job.target.parent.mkdir(parents=True, exist_ok=True)
    temporary = job.target.with_name(f".{job.target.name}.{os.getpid()}.tmp")
    temporary.write_bytes(preview.data)
    temporary.replace(job.target)
    digest = hashlib.sha256(preview.data).hexdigest()
    return MadePreview(
        digest, len(preview.data), preview.width, preview.height, preview.n_frames, tuple(preview.warnings)
    )
