"""Looking at one uploaded file: its hash and its probed facts. Runs in a worker process that may die."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from caption_assets.settings.groups import ClipSettings
from caption_assets.video.probe import ClipFacts, UnreadableVideo, probe_clip

HASH_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class InspectJob:
    """A file to look at. path below the batch names it; location is where it lies."""

    path: str
    location: Path
    limits: ClipSettings


@dataclass(frozen=True)
class Inspected:
    """What was found: the SHA-256 of the bytes, and either facts or the reason why there are none."""

    sha256: str
    facts: ClipFacts | None
    problem: str | None


def inspect_file(job: InspectJob) -> Inspected:
    """Hash and probe one file. A file that is no video is a result, not an exception."""
    try:
        sha256 = file_sha256(job.location)
        facts = probe_clip(job.location, job.limits)
    except UnreadableVideo as fault:
        return Inspected(sha256, None, str(fault))
    except OSError as fault:
        return Inspected("", None, f"cannot be read: {fault.strerror or fault}")
    return Inspected(sha256, facts, None)


def file_sha256(path: Path) -> str:
    """Return the hex SHA-256 of a file's bytes."""
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(HASH_CHUNK_BYTES):
            hasher.update(chunk)
    return hasher.hexdigest()
