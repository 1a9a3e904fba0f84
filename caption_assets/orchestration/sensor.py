"""The sensor `new_uploads`: a folder below `uploads/` is a batch, a new or changed file in it requests a run.

Files that are still being written are left alone: a batch is taken when the sizes and times of its files are the same
at two ticks in a row, or when it holds a file named `_READY`. So is a batch that a run, an import or a takedown works
on.

What was seen is kept in the cursor as one short hash per *bucket* of batches, so that the cursor has the same small
size for ten batches and for ten thousand. Of a bucket that is still changing, the batches that wait or were requested
have a mark each: a busy batch does not hold up its neighbours. Which batches need a run is asked of the ledger; a run
key made of the files' fingerprint keeps a state from being run twice, whatever becomes of the cursor.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import dagster as dg

from caption_assets.ledger.database import Ledger
from caption_assets.locks import is_being_worked_on
from caption_assets.orchestration.partitions import video_batches
from caption_assets.orchestration.resources import RootResource
from caption_assets.root import RootFolder
from caption_assets.uploads.batches import READY_FILE, FoundFile, find_files, is_recorded, list_batches

N_BUCKETS = 512
"""A full cursor has about 10 kB."""

MAX_MARKS = 500
"""Marks take 6 kB more. Where there would be more of them, waiting batches are settled by their bucket alone."""

MAX_RUNS_PER_TICK = 100
"""A tick that asks for more takes too long; the rest follows with the next ticks."""

TICK_S = 30

NAMED = 5
"""Batches that somebody works on, in the reason why a tick asked for nothing."""

PARTITIONS_NAME = str(video_batches.name)


@dataclass(frozen=True)
class UploadedBatch:
    """A batch as it lies on disk: its files, and whether it holds the file `_READY`."""

    name: str
    files: Sequence[FoundFile]
    is_ready: bool

    @property
    def fingerprint(self) -> str:
        """16 hex digits that change with any file."""
        parts = (
            f"{f.path}\x1f{f.bytes}\x1f{f.mtime_ns}\x1f{f.sidecar_mtime_ns}\x1f{f.columns_mtime_ns}\x1f{f.problem}"
            for f in self.files
        )
        return hashlib.sha256("\x1e".join(parts).encode()).hexdigest()[:16]

    @property
    def bucket(self) -> int:
        """Which bucket of the cursor the batch is in."""
        return int(hashlib.sha256(self.name.encode()).hexdigest(), 16) % N_BUCKETS

    @property
    def mark(self) -> str:
        """8 hex digits for this batch with these files."""
        return hashlib.sha256(f"{self.name}\x1f{self.fingerprint}".encode()).hexdigest()[:8]


@dataclass
class Cursor:
    """What the last tick saw.

    seen: per bucket a hash, and whether nothing is left to ask for in it. marks: per waiting or requested batch of the
    other buckets, whether it was requested.
    """

    seen: dict[int, tuple[str, bool]] = field(default_factory=dict)
    marks: dict[str, bool] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str | None) -> "Cursor":
        """Read a cursor. One that is missing, or of another version, is empty: everything is looked at again."""
        try:
            document = json.loads(text or "{}")
            seen = {int(bucket): (entry.rstrip("!"), entry.endswith("!")) for bucket, entry in document["seen"].items()}
            marks = {entry.rstrip("!"): entry.endswith("!") for entry in document["marks"]}
        except (ValueError, KeyError, AttributeError, TypeError):
            return cls()
        return cls(seen, marks)

    def dump(self) -> str:
        """Write the cursor."""
        seen = {str(bucket): text + ("!" if done else "") for bucket, (text, done) in sorted(self.seen.items())}
        marks = [text + ("!" if requested else "") for text, requested in self.marks.items()]
        return json.dumps({"seen": seen, "marks": marks}, separators=(",", ":"))


@dataclass(frozen=True)
class Choice:
    """The batches to run now, those that wait, and the next cursor.

    n_waiting: batches whose files wait for another look. busy: those that somebody works on.
    """

    chosen: Sequence[UploadedBatch]
    n_waiting: int
    busy: Sequence[str]
    cursor: Cursor


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
        # Rows of older versions know a JSON sidecar by its caption alone: nobody has changed it, so it asks for no run.
        if row is not None and row["columns_mtime_ns"] is None and row["sidecar_mtime_ns"] == file.columns_mtime_ns:
            row = {**row, "columns_mtime_ns": file.columns_mtime_ns}
        return not is_recorded(file, row)

    return [batch for batch in batches if any(is_new(batch, file) for file in batch.files)]


def run_key(root: RootFolder, batch: UploadedBatch, recorded: Sequence[Mapping[str, object]]) -> str:
    """Return the key that keeps Dagster from running the same step twice: from what is recorded, to what lies there.

    What is recorded is part of it, so that a change that is undone is a step of its own, and so is the root, since
    several roots may share one Dagster home.
    """
    known = sorted(str(row) for row in recorded if row["batch"] == batch.name)
    step = hashlib.sha256("\x1e".join([str(root.path), batch.fingerprint, *known]).encode()).hexdigest()[:16]
    return f"{batch.name}:{step}"


def choose(batches: Sequence[UploadedBatch], ledger: Ledger, before: Cursor, is_busy: Callable[[str], bool]) -> Choice:
    """Return the batches to run now: those with new work that look as they did at the last tick, or are marked.

    One that somebody works on is left for a later tick: it may be an import, which has new files to its end and then
    none, or a run, which a second one would only wait for.
    """
    buckets: dict[int, list[UploadedBatch]] = {}
    for batch in batches:
        buckets.setdefault(batch.bucket, []).append(batch)
    hashes = {
        number: hashlib.sha256("\x1f".join(f"{b.name}\x1e{b.fingerprint}" for b in members).encode()).hexdigest()[:12]
        for number, members in buckets.items()
    }
    done = {number for number, text in hashes.items() if before.seen.get(number) == (text, True)}
    settled = {number for number, text in hashes.items() if before.seen.get(number, ("", False))[0] == text} - done
    open_ = [batch for number, members in sorted(buckets.items()) if number not in done for batch in members]
    # Before the ledger is asked: an import that ends in between has entered its files by then.
    busy = {batch.name for batch in open_ if is_busy(batch.name)}
    new = with_new_work(open_, ledger)
    asked = [batch for batch in new if before.marks.get(batch.mark, False)]
    pending = [batch for batch in new if not before.marks.get(batch.mark, False)]
    whole = [batch for batch in pending if batch.bucket in settled or batch.mark in before.marks or batch.is_ready]
    wanted = [batch for batch in whole if batch.name not in busy]
    # In the order of buckets, so that a tick finishes as many of them as it can.
    chosen = wanted[:MAX_RUNS_PER_TICK]
    names = {batch.name for batch in chosen}
    left = [batch for batch in pending if batch.name not in names]
    finished = done | settled - {batch.bucket for batch in left}
    marks = {batch.mark: True for batch in (*asked, *chosen) if batch.bucket not in finished}
    unsettled = [batch for batch in left if batch.bucket not in settled]
    if len(marks) + len(unsettled) <= MAX_MARKS:
        marks |= {batch.mark: False for batch in unsettled}
    held = [batch.name for batch in whole if batch.name in busy]
    cursor = Cursor({number: (text, number in finished) for number, text in hashes.items()}, marks)
    return Choice(chosen, len(left) - len(held), held, cursor)


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
        choice = choose(batches, root.ledger, before, lambda batch: is_being_worked_on(root.folder, batch))
        wanted = {batch.name for batch in choice.chosen}
        recorded = root.ledger.named("registered_files", batches=sorted(wanted)) if wanted else []
        if not before.seen and batches:
            # A new Dagster home beside an old ledger: batches that need no run still are partitions.
            wanted |= {str(row["batch"]) for row in root.ledger.named("known_batches")} & {b.name for b in batches}
        missing = sorted(wanted - set(context.instance.get_dynamic_partitions(PARTITIONS_NAME)))
        if not choice.chosen and not missing:
            context.update_cursor(choice.cursor.dump())
            return dg.SkipReason(_why_nothing(len(batches), choice))
        return dg.SensorResult(
            run_requests=[
                dg.RunRequest(run_key=run_key(root.folder, batch, recorded), partition_key=batch.name)
                for batch in choice.chosen
            ],
            dynamic_partitions_requests=[video_batches.build_add_request(missing)] if missing else [],
            cursor=choice.cursor.dump(),
        )

    return new_uploads


def _why_nothing(n_batches: int, choice: Choice) -> str:
    if not n_batches:
        return "there is no batch below uploads/"
    reasons = []
    if choice.n_waiting:
        reasons.append(f"{choice.n_waiting} of {n_batches} batches may still be being written")
    if choice.busy:
        named = ", ".join(map(repr, choice.busy[:NAMED])) + (
            f" and {n} more" if (n := len(choice.busy) - NAMED) > 0 else ""
        )
        reasons.append(f"a run, an import or a takedown works on {named}")
    return f"{'; '.join(reasons)}; the next tick looks again" if reasons else f"nothing new in {n_batches} batches"
