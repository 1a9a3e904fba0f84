"""A folder of exported files that a reader sees whole: written beside its place, then renamed into it."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

MARKER = ".caption_assets"
"""A file in every exported folder, so that no other folder is ever replaced by one."""


class ExportError(ValueError):
    """An export cannot be written. The message says where and what to do."""


def write_folder(target: Path, form: str, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary folder and put it in the place of `target`.

    Raises:
        ExportError: something lies at `target` that is no export.
    """
    if target.exists() and not _is_replaceable(target):
        raise ExportError(f"{target} is there and is no export of caption_assets; choose another --out")
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh, old = (target.with_name(f".{target.name}.{os.getpid()}.{what}") for what in ("tmp", "old"))
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        fresh.mkdir()
        write(fresh)
        (fresh / MARKER).write_text(f"{form}\n", encoding="utf-8")
        if target.exists():
            target.rename(old)
        fresh.rename(target)
    finally:
        if old.exists() and not target.exists():
            old.rename(target)
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _is_replaceable(target: Path) -> bool:
    return target.is_dir() and ((target / MARKER).is_file() or not any(target.iterdir()))


def place_file(source: Path, target: Path) -> bool:
    """Hard-link `source` to `target`, or copy it where that is impossible; False where there is no such file."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        target.hardlink_to(source.resolve(strict=True))
    except FileNotFoundError:
        return False
    except OSError as fault:
        if fault.errno == errno.ENOSPC:
            raise
        shutil.copy2(source, target)
    return True
