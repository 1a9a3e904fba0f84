"""The root folder: where every kind of file lives.

    uploads/<batch>/...                              read only
    frames/<batch>/<window>.<pack>.parquet           packed sampled frames, deletable, rebuilt on demand
    previews/<batch>/<window>.webp                   with a poster <window>.jpg
    ledger/ledger.duckdb                             what happened, and what is so now
    exports/<batch>/...

Packed frames and previews may be deleted; the database may not, unless there is a backup of it.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

ROOT_VARIABLE = "CAPTION_ASSETS_ROOT"
DEFAULT_ROOT = "./data"


class RootError(ValueError):
    """The root folder cannot be used. The message says why and what to do."""


@dataclass(frozen=True)
class RootFolder:
    """Paths below one root folder. Nothing is created before it is written to."""

    path: Path

    @classmethod
    def at(cls, location: str | os.PathLike[str] | None = None) -> "RootFolder":
        """Return the root at `location`, else at CAPTION_ASSETS_ROOT, else at ./data.

        Raises:
            RootError: `location` is an object-store URL, a file, or a path with a question mark.
        """
        text = os.fspath(location or os.environ.get(ROOT_VARIABLE) or DEFAULT_ROOT)
        if "://" in text:
            raise RootError(f"{text}: the root must be a folder on a local or mounted file system")
        path = Path(text).expanduser().absolute()
        if "?" in str(path):
            raise RootError(f"{path}: the path of the root must not hold '?', which DuckDB takes for the end of a name")
        if path.exists() and not path.is_dir():
            raise RootError(f"{path} is a file; the root must be a folder")
        return cls(path)

    @property
    def uploads(self) -> Path:
        """Folder with one folder per batch; never written to, except by `caption-assets run`."""
        return self.path / "uploads"

    @property
    def ledger(self) -> Path:
        """Folder of the ledger: the database and its locks."""
        return self.path / "ledger"

    def batch_lock(self, batch: str) -> Path:
        """File that a run holds locked while it works on `batch`."""
        return self.ledger / "locks" / f"{hashlib.sha256(batch.encode()).hexdigest()[:16]}.lock"

    def tables_lock(self, batch: str) -> Path:
        """File that is locked while the tables of `batch` are written, by a run or by a person's command."""
        return self.batch_lock(batch).with_suffix(".tables.lock")

    def frames(self, batch: str) -> Path:
        """Folder of the packed frames that runs of `batch` made."""
        return self.path / "frames" / batch

    def previews(self, batch: str) -> Path:
        """Folder of the previews that runs of `batch` made."""
        return self.path / "previews" / batch

    def exports(self, batch: str) -> Path:
        """Folder of the exported tables of `batch`."""
        return self.path / "exports" / batch

    def relative(self, path: Path) -> str:
        """Return `path` as the ledger stores it: below the root, with forward slashes."""
        return path.relative_to(self.path).as_posix()
