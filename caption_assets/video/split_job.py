"""Splitting one file into clips, in a worker process that may die."""

from dataclasses import dataclass
from pathlib import Path

from caption_assets.ids import ClipId
from caption_assets.settings.groups import ClipSettings
from caption_assets.video.probe import ClipFacts, UnreadableVideo, probe_clip
from caption_assets.video.scenes import find_scene_cuts
from caption_assets.video.splitting import Part, PartFacts, part_facts, scene_parts, stride_parts


@dataclass(frozen=True)
class SplitJob:
    """A file to split.

    source: the clip that is the whole file.
    expected_bytes, expected_mtime_ns: what was registered; a file that changed since is refused.
    """

    source: ClipId
    location: Path
    expected_bytes: int
    expected_mtime_ns: int
    clip: ClipSettings


@dataclass(frozen=True)
class FileSplit:
    """The parts of a file in order, one at least, or why it could not be split."""

    parts: tuple[PartFacts, ...] = ()
    problem: str | None = None


def split_file(job: SplitJob) -> FileSplit:
    """Probe a file and find its parts. A stride needs the packets only; scenes need every frame decoded.

    A file that cannot be read any more is a result with `problem` set.
    """
    try:
        status = job.location.stat()
        if (status.st_size, status.st_mtime_ns) != (job.expected_bytes, job.expected_mtime_ns):
            return FileSplit(problem="the file has changed since it was registered; run raw_clips again")
        facts = probe_clip(job.location, job.clip)
        parts = _parts(job, facts)
    except FileNotFoundError:
        return FileSplit(problem="the file is not in uploads/ any more; put it back and run the batch again")
    except (UnreadableVideo, OSError) as fault:
        return FileSplit(problem=str(fault))
    return FileSplit(tuple(part_facts(facts, part) for part in parts))


def _parts(job: SplitJob, facts: ClipFacts) -> list[Part]:
    clip = job.clip
    times_s, duration_s, shortest_s = facts.times_s, facts.duration_s, clip.min_clip_length_s
    if clip.split == "stride":
        return stride_parts(times_s, duration_s, length_s=clip.split_length_s, min_length_s=shortest_s)
    cuts = find_scene_cuts(job.location, facts, clip.scene_threshold, clip)
    return scene_parts(times_s, duration_s, cuts, min_length_s=shortest_s, max_length_s=clip.max_clip_length_s)
