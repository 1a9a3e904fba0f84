"""Bringing a user's files into `uploads/<batch>/`, so that the batch can be run again from the UI."""

import filecmp
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from caption_assets.ids import digest
from caption_assets.uploads.batches import BatchNameError, check_batch_name, printable


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
        UploadError: a path does not exist, is neither file nor folder, or holds `uploads/` itself; two files want the
            same name; no batch name can be made.
    """
    paths, uploads = [_located(path) for path in paths], uploads.resolve()
    for path in paths:
        if not path.exists():
            raise UploadError(f"{path}: no such file or folder")
        if not path.is_dir() and not path.is_file():
            raise UploadError(f"{path}: neither a file nor a folder")
        if uploads.is_relative_to(path.resolve()):
            raise UploadError(f"{path} holds {uploads}; name the folders with the videos")
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
        UploadError: the batch has another file of that name, or a file cannot be brought in.
    """
    new = 0
    folder = uploads / upload.batch
    folder.mkdir(parents=True, exist_ok=True)
    for source, relative in upload.files:
        target = folder / relative
        if not os.path.lexists(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileExistsError):  # another command was quicker: what it brought is looked at
                _link_or_copy(source, target)
                new += 1
                continue
        if not _is_same(source, target):
            raise UploadError(f"{target} exists with other content than {source}; choose another --batch")
    return new


def _batch_of(paths: Sequence[Path], uploads: Path) -> str:
    inside = {_batch_inside(path, uploads) for path in paths}
    if len(inside) == 1 and (name := inside.pop()) is not None:
        return name
    if len(paths) == 1 and paths[0].is_dir():
        return paths[0].resolve().name
    return "run-" + digest(*sorted(printable(os.fspath(path)) for path in paths))[:8]


def _located(path: Path) -> Path:
    """Return where `path` lies, without links and `..` on the way; a link at its end stays one."""
    absolute = path.absolute()
    return absolute.resolve() if absolute.name == ".." else absolute.parent.resolve() / absolute.name


def _batch_inside(path: Path, uploads: Path) -> str | None:
    return path.relative_to(uploads).parts[0] if path != uploads and path.is_relative_to(uploads) else None


def _files_of(path: Path, folder: Path) -> list[tuple[Path, str]]:
    if path.is_relative_to(folder):
        return []  # it lies in the batch already
    if not path.is_dir():
        return [(path.resolve(), path.name)]  # a link that the user names is the file it leads to
    files = (entry for entry in sorted(path.rglob("*")) if not entry.is_dir() or entry.is_symlink())
    relative = ((entry, entry.relative_to(path)) for entry in files)
    return [(entry, below.as_posix()) for entry, below in relative if not any(p.startswith(".") for p in below.parts)]


def _is_same(source: Path, target: Path) -> bool:
    if source.is_symlink() or target.is_symlink():
        return source.is_symlink() and target.is_symlink() and source.resolve() == target.resolve()
    if source.samefile(target):
        return True
    if not source.is_file() or not target.is_file():
        return False
    a, b = source.stat(), target.stat()
    # A copy on another file system may have a coarser time; only then are the bytes read.
    return a.st_size == b.st_size and (a.st_mtime_ns == b.st_mtime_ns or filecmp.cmp(source, target, shallow=False))


def _link_or_copy(source: Path, target: Path) -> None:
    # A link inside a folder may be an uploader's, so it stays a link: raw_clips then says why it is not followed.
    if source.is_symlink():
        target.symlink_to(source.resolve())
        return
    try:
        target.hardlink_to(source)
    except FileExistsError:
        raise
    except OSError as error:
        if not source.is_file():
            raise UploadError(f"{source} is no regular file and cannot be linked: {error.strerror}") from error
        temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        shutil.copy2(source, temporary)
        temporary.replace(target)
