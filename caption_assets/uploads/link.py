"""Bringing a user's files into `uploads/<batch>/`, so that the batch can be run again from the UI."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from caption_assets.ids import digest
from caption_assets.uploads.batches import BatchNameError, check_batch_name


class UploadError(ValueError):
    """A path given by the user cannot be uploaded. The message says which and why."""


@dataclass(frozen=True)
class Upload:
    """Files to bring into a batch: where each comes from, and its path below the batch's folder."""

    batch: str
    files: tuple[tuple[Path, str], ...]


def plan_upload(paths: Sequence[Path], uploads: Path, batch: str | None = None) -> Upload:
    """Decide what `caption-assets run PATH...` brings where.

    A folder stands for every file below it that is not hidden. The batch is `batch`; else the batch that the paths are
    in already; else the name of the one folder given; else `run-` and a hash of the paths, so that the same command
    finds the same batch again.

    Raises:
        UploadError: a path does not exist, two files want the same name, or no batch name can be made.
    """
    for path in paths:
        if not os.path.lexists(path):
            raise UploadError(f"{path}: no such file or folder")
    try:
        name = check_batch_name(batch if batch is not None else _batch_of(paths, uploads))
    except BatchNameError as error:
        raise UploadError(f"{error}; choose one with --batch") from None
    wanted: dict[str, Path] = {}
    for path in paths:
        for source, relative in _files_of(path, uploads / name):
            if wanted.setdefault(relative, source) != source:
                raise UploadError(f"{wanted[relative]} and {source} have the same name {relative!r}; use two batches")
    return Upload(name, tuple((source, relative) for relative, source in sorted(wanted.items())))


def bring_in(upload: Upload, uploads: Path) -> int:
    """Hard-link, or where that is impossible copy, the files into the batch; return how many were new.

    Raises:
        UploadError: the batch has another file of that name.
    """
    new = 0
    folder = uploads / upload.batch
    folder.mkdir(parents=True, exist_ok=True)
    for source, relative in upload.files:
        target = folder / relative
        if os.path.lexists(target):
            if not _is_same(source, target):
                raise UploadError(f"{target} exists with other content than {source}; choose another --batch")
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        _link_or_copy(source, target)
        new += 1
    return new


def _batch_of(paths: Sequence[Path], uploads: Path) -> str:
    resolved = [path.absolute() for path in paths]
    inside = {_batch_inside(path, uploads.absolute()) for path in resolved}
    if len(inside) == 1 and (name := inside.pop()) is not None:
        return name
    if len(resolved) == 1 and resolved[0].is_dir():
        return resolved[0].resolve().name
    return "run-" + digest(*sorted(map(os.fspath, resolved)))[:8]


def _batch_inside(path: Path, uploads: Path) -> str | None:
    return path.relative_to(uploads).parts[0] if path != uploads and path.is_relative_to(uploads) else None


def _files_of(path: Path, folder: Path) -> list[tuple[Path, str]]:
    if path.absolute().is_relative_to(folder.absolute()):
        return []  # it lies in the batch already
    if not path.is_dir():
        return [(path.resolve(), path.absolute().name)]  # a link that the user names is the file it leads to
    files = (entry for entry in sorted(path.rglob("*")) if not entry.is_dir() or entry.is_symlink())
    relative = ((entry, entry.relative_to(path)) for entry in files)
    return [(entry, below.as_posix()) for entry, below in relative if not any(p.startswith(".") for p in below.parts)]


def _is_same(source: Path, target: Path) -> bool:
    if source.is_symlink() or target.is_symlink():
        return source.is_symlink() and target.is_symlink() and source.resolve() == target.resolve()
    if os.path.samefile(source, target):
        return True
    a, b = source.stat(), target.stat()
    return (a.st_size, a.st_mtime_ns) == (b.st_size, b.st_mtime_ns)


def _link_or_copy(source: Path, target: Path) -> None:
    # A link inside a folder may be an uploader's, so it stays a link: raw_clips then says why it is not followed.
    if source.is_symlink():
        target.symlink_to(source.resolve())
        return
    try:
        target.hardlink_to(source)
    except OSError:
        temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        shutil.copy2(source, temporary)
        temporary.replace(target)
