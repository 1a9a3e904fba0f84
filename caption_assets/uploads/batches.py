"""Which folders below `uploads/` are batches, and which files of a batch are candidates for captions.

A batch is a folder directly below `uploads/`; its name is the partition key. Hidden names are ignored, and so is the
file `_READY`, which tells the sensor that an upload is complete. Every other file is reported, also those that cannot
be used: a file is never passed over in silence.
"""

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from caption_assets.ledger.schema import UploadRow

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".3gp", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".m2ts", ".mts")
SIDECAR_SUFFIXES = (".txt", ".json")
RECORDED = ("bytes", "mtime_ns", "sidecar_mtime_ns", "columns_mtime_ns")
"""What tells without reading a file whether it, or what lies beside it, has changed."""
READY_FILE = "_READY"
NOTHING = (None, None)

MAX_BATCH_NAME_BYTES = 200
# What Dagster refuses in a partition key (dagster._core.definitions.partitions.utils.base), beside control characters.
FORBIDDEN_IN_BATCH_NAMES = ("...", "/", "\\")


class BatchNameError(ValueError):
    """A folder name cannot be a batch. The message says why."""


@dataclass(frozen=True)
class FoundFile:
    """A file of a batch.

    path: below the batch's folder, with forward slashes. problem: why the file cannot be used, else None.
    bytes and mtime_ns are None where the file could not be looked at. sidecar: what may hold its caption; columns: its
    JSON sidecar, which is another file where there is a text too.
    """

    path: str
    bytes: int | None
    mtime_ns: int | None
    sidecar: Path | None = None
    sidecar_mtime_ns: int | None = None
    problem: str | None = None
    columns: Path | None = None
    columns_mtime_ns: int | None = None


def check_batch_name(name: str) -> str:
    """Return `name` if it can be a folder below `uploads/` and a partition key.

    Raises:
        BatchNameError: it is empty, hidden, too long, a path, or holds control characters.
    """
    fault = None
    if not name or name.startswith("."):
        fault = "it must not be empty or start with a dot"
    elif any(text in name for text in FORBIDDEN_IN_BATCH_NAMES):
        fault = "it must not hold '/', '\\' or '...'"
    elif any(ord(character) < 32 or ord(character) == 127 for character in name):
        fault = "it must not hold control characters such as a newline"
    elif name != name.strip():
        fault = "it must not start or end with a space"
    elif not _is_unicode(name):
        fault = "it is not valid UTF-8"
    elif len(name.encode()) > MAX_BATCH_NAME_BYTES:
        fault = f"it must not be longer than {MAX_BATCH_NAME_BYTES} bytes"
    if fault:
        raise BatchNameError(f"{name!r} cannot be a batch: {fault}")
    return name


def list_batches(uploads: Path) -> tuple[list[str], list[str]]:
    """Return the batch names below `uploads`, sorted, and a sentence for each other thing that lies there."""
    if not uploads.is_dir():
        return [], []
    names, refused = [], []
    with os.scandir(uploads) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if not entry.is_dir(follow_symlinks=False):
                what = "a linked folder is no batch" if entry.is_dir() else "a file outside a batch is not captioned"
                refused.append(f"{printable(entry.name)!r}: {what}; put the files into a folder below uploads/")
                continue
            try:
                names.append(check_batch_name(entry.name))
            except BatchNameError as error:
                refused.append(str(error))
    return sorted(names), sorted(refused)


def find_files(uploads: Path, batch: str) -> list[FoundFile]:
    """Return every file of a batch that has to become a row, sorted by path.

    A sidecar (`clip.txt` or `clip.json` beside `clip.mp4`) is no row of its own.

    Raises:
        FileNotFoundError: there is no such batch folder.
    """
    folder = uploads / batch
    if not folder.is_dir() or folder.is_symlink():
        raise FileNotFoundError(f"{folder}: no such batch folder")
    found = dict(_walk(folder, ""))
    stems = {_split(path)[0] for path in found if _is_video_name(path)}
    sidecars: dict[tuple[str, str], os.DirEntry[str]] = {}
    rows = []
    for path in sorted(found):
        stem, suffix = _split(path)
        # A link or a pipe is no sidecar: it is a row that says so, and nothing opens it.
        if suffix in SIDECAR_SUFFIXES and stem in stems and found[path].is_file(follow_symlinks=False):
            sidecars[stem, suffix] = found[path]
        else:
            rows.append(path)
    return [_describe(uploads, path, found[path], sidecars) for path in rows]


def changed_within(folder: Path, seconds: float, now_ns: int) -> bool:
    """Tell whether anything in `folder`, hidden files included, changed less than `seconds` before `now_ns`.

    Times more than `seconds` in the future, from a camera or a clock that was wrong, do not count as changes. Whoever
    writes to such a file also sets the time of its inode, which is right.
    """
    for parent, _, names in os.walk(folder):
        for path in (parent, *(f"{parent}/{name}" for name in names)):
            try:
                status = os.lstat(path)
            except OSError:
                return True  # removed since it was listed
            if any(abs(now_ns - time) < seconds * 1e9 for time in (status.st_mtime_ns, status.st_ctime_ns)):
                return True
    return False


@dataclass(frozen=True, slots=True)
class RecordedFile:
    """What the ledger knows of a file, in few columns."""

    batch: str
    path: str
    bytes: int | None
    mtime_ns: int | None
    sidecar_mtime_ns: int | None
    columns_mtime_ns: int | None
    sha256: str | None
    status: str
    error: str | None


def is_recorded(file: FoundFile, row: RecordedFile | UploadRow | None) -> bool:
    """Tell whether a file is still what its row in `uploads` says, by size and times, without reading it.

    A file that could not be used must have the same problem still. One that nothing was found out about (its worker
    died, or took too long) is not recorded: it is looked at again.
    """
    if row is None or any(getattr(file, name) != getattr(row, name) for name in RECORDED):
        return False
    if file.problem is not None:
        return row.status == "quarantined" and row.error == file.problem
    return row.sha256 is not None and row.status != "gone"


def printable(path: str) -> str:
    r"""Return `path` as UTF-8 text: bytes that are not are written as \xNN."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _walk(folder: Path, prefix: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield every file below `folder`, and every folder that cannot be listed, with its path below the batch."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") or (not prefix and entry.name == READY_FILE):
                continue
            path = f"{prefix}{entry.name}"
            if not entry.is_dir(follow_symlinks=False):
                yield path, entry
                continue
            try:
                yield from _walk(Path(entry.path), f"{path}/")
            except OSError:
                yield path, entry


def _describe(
    uploads: Path, path: str, entry: os.DirEntry[str], sidecars: Mapping[tuple[str, str], os.DirEntry[str]]
) -> FoundFile:
    try:
        status = entry.stat()
    except OSError as error:
        reason = "it is a symbolic link to nothing" if entry.is_symlink() else (error.strerror or str(error))
        return FoundFile(printable(path), None, None, problem=f"cannot be read: {reason}")
    problem = None
    if not _is_unicode(path):
        problem = "the file name is not valid UTF-8; rename the file"
    elif entry.is_symlink() and not _stays_inside(Path(entry.path), uploads):
        problem = "a symbolic link that leaves uploads/ is not followed; copy or hard-link the file instead"
    elif entry.is_dir(follow_symlinks=False):
        problem = "a folder that cannot be listed; the files in it are left out"
    elif not stat.S_ISREG(status.st_mode):
        problem = "not a regular file"
    elif not _is_video_name(path):
        problem = f"not a video file name; accepted: {' '.join(VIDEO_SUFFIXES)}"
    stem, _ = _split(path)
    if problem:
        return FoundFile(printable(path), status.st_size, status.st_mtime_ns, problem=problem)
    text, columns = (_beside(sidecars.get((stem, suffix))) for suffix in SIDECAR_SUFFIXES)
    caption = columns if text == NOTHING else text
    return FoundFile(
        path, status.st_size, status.st_mtime_ns, *caption, columns=columns[0], columns_mtime_ns=columns[1]
    )


def _split(path: str) -> tuple[str, str]:
    """Return `path` without its suffix, and the suffix in lower case with its dot."""
    stem, dot, suffix = path.rpartition(".")
    return stem, dot + suffix.lower()


def _beside(entry: os.DirEntry[str] | None) -> tuple[Path | None, int | None]:
    """Return a sidecar and when it was written."""
    try:
        return (Path(entry.path), entry.stat(follow_symlinks=False).st_mtime_ns) if entry else NOTHING
    except OSError:
        return NOTHING  # removed since it was listed


def _is_video_name(path: str) -> bool:
    return path.lower().endswith(VIDEO_SUFFIXES)


def _stays_inside(link: Path, folder: Path) -> bool:
    return link.resolve().is_relative_to(folder.resolve())


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
