"""The sensor `new_uploads`: a folder below `uploads/` is a batch, a new or changed file in it requests a run.

Files that are still being written are left alone: a batch is taken when the sizes and times of its files are the same
at two ticks in a row, or when it holds a file named `_READY`.

What was seen is kept in the cursor as one short hash per *bucket* of batches, so that the cursor has the same small
size for ten batches and for ten thousand. A busy batch delays only its bucket. Which batches of a settled bucket need
a run is asked of the ledger; a run key made of the files' fingerprint keeps a state from being run twice.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import dagster as dg

from caption_assets.ledger.database import Ledger
from caption_assets.orchestration.partitions import video_batches
from caption_assets.orchestration.resources import RootResource
from caption_assets.root import RootFolder
from caption_assets.uploads.batches import READY_FILE, FoundFile, changed_since, find_files, list_batches

N_BUCKETS = 512
"""A full cursor has about 10 kB."""

MAX_RUNS_PER_TICK = 100
"""A tick that asks for more takes too long; the rest follows with the next ticks."""

TICK_S = 30

PARTITIONS_NAME = str(video_batches.name)


@dataclass(frozen=True)
class UploadedBatch:
    """A batch as it lies on disk: its files, a fingerprint of their names, sizes and times, and whether it is marked."""

    name: str
    files: Sequence[FoundFile]
    is_ready: bool

    @property
    def fingerprint(self) -> str:
        """16 hex digits that change with any file."""
        parts = (f"{f.path}\x1f{f.bytes}\x1f{f.mtime_ns}\x1f{f.sidecar_mtime_ns}" for f in self.files)
        return hashlib.sha256("\x1e".join(parts).encode()).hexdigest()[:16]

    @property
    def bucket(self) -> int:
        """Which bucket of the cursor the batch is in."""
        return int(hashlib.sha256(self.name.encode()).hexdigest(), 16) % N_BUCKETS


@dataclass
class Cursor:
    """What the last tick saw: per bucket a hash, and whether all that it asked for was requested."""

    seen: dict[int, tuple[str, bool]] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str | None) -> "Cursor":
        """Read a cursor. One that is missing, or of another version, is empty: everything is looked at again."""
        try:
            document = json.loads(text or "{}")
            seen = {int(bucket): (entry.rstrip("!"), entry.endswith("!")) for bucket, entry in document["seen"].items()}
        except (ValueError, KeyError, AttributeError, TypeError):
            return cls()
        return cls(seen)

    def dump(self) -> str:
        """Write the cursor."""
        seen = {str(bucket): text + ("!" if done else "") for bucket, (text, done) in sorted(self.seen.items())}
        return json.dumps({"seen": seen}, separators=(",", ":"))


def scan(root: RootFolder) -> tuple[list[UploadedBatch], list[str]]:
    """Return every batch with at least one file, and a sentence for each folder that cannot be a batch."""
    names, refused = list_batches(root.uploads)
    batches = []
    for name in names:
        try:
            files = find_files(root.uploads, name)
        except OSError:
            continue  # removed or renamed since it was listed
        if files:
            batches.append(UploadedBatch(name, files, (root.uploads / name / READY_FILE).exists()))
    return batches, refused


def with_new_work(batches: Sequence[UploadedBatch], ledger: Ledger) -> list[UploadedBatch]:
    """Return the batches that hold a file the ledger does not know as it is now."""
    if not batches:
        return []
    recorded: dict[tuple[str, str], Mapping[str, object]] = {
        (str(row["batch"]), str(row["path"])): row
        for row in ledger.named("registered_files", batches=[batch.name for batch in batches])
    }

    def is_new(batch: UploadedBatch, file: FoundFile) -> bool:
        row = recorded.get((batch.name, file.path))
        return row is None or changed_since(file, row["bytes"], row["mtime_ns"], row["sidecar_mtime_ns"])

    return [batch for batch in batches if any(is_new(batch, file) for file in batch.files)]


def choose(batches: Sequence[UploadedBatch], ledger: Ledger, cursor: Cursor) -> tuple[list[UploadedBatch], Cursor]:
    """Return the batches to run now, and the next cursor."""
    buckets: dict[int, list[UploadedBatch]] = {}
    for batch in batches:
        buckets.setdefault(batch.bucket, []).append(batch)
    hashes = {
        number: hashlib.sha256("\x1f".join(f"{b.name}\x1e{b.fingerprint}" for b in members).encode()).hexdigest()[:12]
        for number, members in buckets.items()
    }
    done = {number for number, text in hashes.items() if cursor.seen.get(number) == (text, True)}
    settled = {number for number, text in hashes.items() if cursor.seen.get(number, ("", False))[0] == text} - done
    candidates = [
        batch
        for number, members in buckets.items()
        if number not in done
        for batch in members
        if number in settled or batch.is_ready
    ]
    wanted = sorted(with_new_work(candidates, ledger), key=lambda batch: batch.name)
    chosen, left = wanted[:MAX_RUNS_PER_TICK], wanted[MAX_RUNS_PER_TICK:]
    unfinished = {batch.bucket for batch in left}
    seen = {number: (text, number in done | settled - unfinished) for number, text in hashes.items()}
    return chosen, Cursor(seen)


def new_uploads_sensor(job_name: str) -> dg.SensorDefinition:
    """Return the sensor that runs the job `job_name` on every batch with new work."""

    @dg.sensor(
        name="new_uploads",
        job_name=job_name,
        minimum_interval_seconds=TICK_S,
        default_status=dg.DefaultSensorStatus.STOPPED,
        description="Registers folders below uploads/ as batches and runs those with new or changed files.",
    )
    def new_uploads(context: dg.SensorEvaluationContext, root: RootResource) -> dg.SensorResult | dg.SkipReason:
        batches, refused = scan(root.folder)
        for sentence in refused:
            context.log.warning(sentence)
        before = Cursor.parse(context.cursor)
        chosen, cursor = choose(batches, root.ledger, before)
        wanted = {batch.name for batch in chosen}
        if not before.seen and batches:
            # A new Dagster home beside an old ledger: batches that need no run still are partitions.
            wanted |= {str(row["batch"]) for row in root.ledger.named("known_batches")} & {b.name for b in batches}
        missing = sorted(wanted - set(context.instance.get_dynamic_partitions(PARTITIONS_NAME)))
        if not chosen and not missing:
            context.update_cursor(cursor.dump())
            return dg.SkipReason(_why_nothing(batches, cursor))
        return dg.SensorResult(
            run_requests=[
                dg.RunRequest(run_key=f"{batch.name}:{batch.fingerprint}", partition_key=batch.name) for batch in chosen
            ],
            dynamic_partitions_requests=[video_batches.build_add_request(missing)] if missing else [],
            cursor=cursor.dump(),
        )

    return new_uploads


def _why_nothing(batches: Sequence[UploadedBatch], cursor: Cursor) -> str:
    waiting = sum(not cursor.seen[batch.bucket][1] for batch in batches)
    if not batches:
        return "there is no batch below uploads/"
    if waiting:
        return f"{waiting} of {len(batches)} batches are still being written; the next tick looks again"
    return f"nothing new in {len(batches)} batches"
