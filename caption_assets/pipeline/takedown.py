"""Takedowns: a clip or a batch is hidden from every view and export at once; its rows stay for the audit.

A takedown is of content: the same bytes uploaded again, in whatever batch and under whatever name, stay hidden. It can
be withdrawn as long as no file was deleted.
"""

import shutil
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from caption_assets.exchange.table import write_tables
from caption_assets.ledger.captions import WITHDRAWN
from caption_assets.ledger.database import Ledger
from caption_assets.ledger.schema import TombstoneRow, UploadRow
from caption_assets.ledger.store import Session
from caption_assets.locks import batches_to_ourselves
from caption_assets.pipeline.clip_uploads import uploads_of_clip
from caption_assets.pipeline.reviewer import ReviewError, person
from caption_assets.root import RootFolder
from caption_assets.uploads.batches import SIDECAR_SUFFIXES, VIDEO_SUFFIXES
from caption_assets.uploads.inspect import file_sha256

CLIP, BATCH = "clip", "batch"
TAKEDOWN = "TAKEDOWN"
DELETING, DELETED = "deleting", "deleted"


@dataclass(frozen=True)
class TakenDown:
    """What a takedown did.

    batches: those whose tables were written again. left: a sentence for each file that was not deleted.
    """

    objects: tuple[tuple[str, str], ...]
    batches: tuple[str, ...]
    files: int = 0
    bytes: int = 0
    left: tuple[str, ...] = ()


def take_down(
    root: RootFolder,
    *,
    clips: Sequence[str] = (),
    batches: Sequence[str] = (),
    by: str,
    reason: str,
    delete_files: bool = False,
) -> TakenDown:
    """Hide clips and batches; with `delete_files` delete their uploads, sidecars, packed frames and previews too.

    The views hide them when the first commit is done, and the tables of every batch that held them are written again.
    Deleting waits for runs that work on those batches. What other batches still show of a batch is not deleted; a copy
    or hard link outside the root is not reached. After a crash the same call goes on.

    Raises:
        ReviewError: no such clip or batch, nothing named, no reason given, or the file of a clip that is only a part
            of it would have to be deleted. Nothing was changed.
    """
    ledger, who = Ledger(root), person(by)
    if not reason.strip():
        raise ReviewError("a takedown needs a reason")
    with ledger.session() as session:
        objects = _objects(session, clips, batches)
        if delete_files:
            _check_whole_files(session, objects)
        concerned = _batches_of(session, objects)
    _record(ledger, objects, who, TAKEDOWN, reason.strip())
    _rewrite(root, ledger, concerned)
    if not delete_files:
        return TakenDown(objects, concerned)
    with batches_to_ourselves(root, concerned):
        _record(ledger, objects, who, TAKEDOWN, reason.strip(), files=DELETING)
        files = _Files(root)
        for kind, name in objects:
            if kind == BATCH:
                files.delete_batch(name, ledger.select(WindowFiles, WINDOWS_ONLY_IN_BATCH, batch=name))
            else:
                with ledger.session() as session:
                    uploads = uploads_of_clip(session, name)
                    windows = session.select(WindowFiles, WINDOWS_OF_CLIP, clip=name)
                files.delete_clip(uploads, windows)
        _record(ledger, objects, who, TAKEDOWN, reason.strip(), files=DELETED, deleted_bytes=files.bytes)
        _rewrite(root, ledger, concerned)
    return TakenDown(objects, concerned, files.count, files.bytes, tuple(files.left))


def withdraw_takedown(
    root: RootFolder, *, clips: Sequence[str] = (), batches: Sequence[str] = (), by: str, reason: str
) -> TakenDown:
    """Show clips and batches again.

    Raises:
        ReviewError: one of them is not taken down, or its files were deleted.
    """
    ledger, who = Ledger(root), person(by)
    with ledger.session() as session:
        objects = _objects(session, clips, batches)
        for kind, name in objects:
            standing = _standing(session, kind, name)
            if not standing:
                raise ReviewError(f"{name}: this {kind} is not taken down")
            if any(row.files is not None for row in standing):
                raise ReviewError(f"{name}: its files were deleted, so the takedown of this {kind} cannot be withdrawn")
        concerned = _batches_of(session, objects)
    _record(ledger, objects, who, WITHDRAWN, reason.strip() or None)
    _rewrite(root, ledger, concerned)
    return TakenDown(objects, concerned)


def _objects(session: Session, clips: Sequence[str], batches: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Return the kind and name of everything that is named, each once."""
    if not clips and not batches:
        raise ReviewError("name a clip or a batch")
    for clip in clips:
        if not session.rows("SELECT clip_id FROM clips WHERE clip_id = $clip LIMIT 1", clip=clip):
            raise ReviewError(f"{clip}: no such clip in the ledger")
    for batch in batches:
        if not session.rows("SELECT batch FROM uploads WHERE batch = $batch LIMIT 1", batch=batch):
            raise ReviewError(f"{batch}: no such batch in the ledger")
    return tuple(dict.fromkeys([*((CLIP, clip) for clip in clips), *((BATCH, batch) for batch in batches)]))


def _standing(session: Session, kind: str, name: str) -> list[TombstoneRow]:
    """Return the rows of a takedown that stands: those since it was last withdrawn."""
    source = "tombstones WHERE object_kind = $kind AND object_id = $name ORDER BY created_at"
    standing: list[TombstoneRow] = []
    for row in session.select(TombstoneRow, source, kind=kind, name=name):
        standing = [] if row.reason_code == WITHDRAWN else [*standing, row]
    return standing


def _check_whole_files(session: Session, objects: Sequence[tuple[str, str]]) -> None:
    for kind, name in objects:
        for row in uploads_of_clip(session, name) if kind == CLIP else ():
            if row.clip_id != name:
                raise ReviewError(
                    f"{name} is a part of {row.batch}/{row.path}, which cannot be deleted for it; take down the clip "
                    f"that is the whole file, {row.clip_id}, or hide the part without deleting"
                )


def _batches_of(session: Session, objects: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """Return the batches whose tables hold, or held, any of the objects."""
    found = {name for kind, name in objects if kind == BATCH}
    for kind, name in objects:
        if kind == CLIP:
            found |= {row.batch for row in uploads_of_clip(session, name)}
    return tuple(sorted(found))


def _record(
    ledger: Ledger,
    objects: Sequence[tuple[str, str]],
    who: str,
    code: str,
    detail: str | None,
    files: str | None = None,
    deleted_bytes: int | None = None,
) -> None:
    act, now = f"takedown-{uuid.uuid4()}", datetime.now(UTC)
    ledger.commit(
        TombstoneRow(
            object_kind=kind,
            object_id=name,
            reason_code=code,
            detail=detail,
            requested_by=who,
            files=files,
            deleted_bytes=deleted_bytes,
            run_id=act,
            created_at=now,
        )
        for kind, name in objects
    )


def _rewrite(root: RootFolder, ledger: Ledger, batches: Sequence[str]) -> None:
    """Write again the tables that are there."""
    for batch in batches:
        write_tables(root, ledger, batch, again=True)


def _own_sidecars(video: Path) -> list[Path]:
    """Return the sidecars of a video, or none where another video of that stem has them too."""
    namesakes = [path for path in video.parent.iterdir() if path.stem == video.stem and path.name != video.name]
    if any(path.suffix.lower() in VIDEO_SUFFIXES for path in namesakes):
        return []
    return [path for path in namesakes if path.suffix.lower() in SIDECAR_SUFFIXES]


@dataclass(frozen=True, slots=True)
class WindowFiles:
    """A window and a preview of it, as paths below the root."""

    window_id: str
    uri: str | None
    poster_uri: str | None


_WITH_PREVIEWS = """(
    SELECT DISTINCT w.window_id, p.uri, p.poster_uri
    FROM windows w
    LEFT JOIN previews p ON p.window_id = w.window_id
    WHERE {condition}
) made ORDER BY window_id, uri"""

WINDOWS_OF_CLIP = _WITH_PREVIEWS.format(
    condition="w.clip_id = $clip OR w.clip_id IN (SELECT clip_id FROM clips WHERE source_clip_id = $clip)"
)
"""The windows of a clip and of its parts, whatever their recipe, with every preview that was made of them."""

_FILES_OF_BATCH = "SELECT clip_id FROM uploads WHERE batch = $batch AND clip_id IS NOT NULL"
_PARTS_OF_BATCH = f"SELECT clip_id FROM clips WHERE source_clip_id IN ({_FILES_OF_BATCH})"
WINDOWS_ONLY_IN_BATCH = _WITH_PREVIEWS.format(
    condition=f"(w.clip_id IN ({_FILES_OF_BATCH}) OR w.clip_id IN ({_PARTS_OF_BATCH}))"
    " AND w.window_id NOT IN (SELECT window_id FROM captions)"
)
"""The windows of the files of a batch that no batch shows now, with every preview that was made of them."""


class _Files:
    """Deletes what belongs to clips and batches below one root folder, and counts it."""

    def __init__(self, root: RootFolder):
        self._root = root
        self.count = self.bytes = 0
        self.left: list[str] = []

    def delete_clip(self, uploads: Sequence[UploadRow], windows: Sequence[WindowFiles]) -> None:
        """Delete the uploads of a clip, and the packed frames and previews of its windows and those of its parts."""
        for row in uploads:
            self._delete_upload(self._root.uploads / row.batch, row)
        self._delete_windows(windows)

    def delete_batch(self, batch: str, windows: Sequence[WindowFiles]) -> None:
        """Delete the uploads and packed frames of a batch, and previews of windows that no batch shows now."""
        self._delete_windows(windows)
        for folder in (self._root.uploads / batch, self._root.frames(batch)):
            self._delete_folder(folder)

    def _delete_upload(self, folder: Path, row: UploadRow) -> None:
        path = folder / row.path
        if not path.is_file():
            return
        if file_sha256(path) != row.sha256:
            self.left.append(f"{path}: another video lies there now")
        else:
            for sidecar in _own_sidecars(path):  # before the video, so that a crash between them leaves nothing behind
                self._delete(sidecar)
            self._delete(path)

    def _delete_windows(self, rows: Sequence[WindowFiles]) -> None:
        windows = {row.window_id for row in rows}
        for folder in self._subfolders("frames") if windows else ():
            for path in folder.iterdir():
                if path.name.lstrip(".").partition(".")[0] in windows:
                    self._delete(path)
        for row in rows:
            for uri in (row.uri, row.poster_uri):
                if uri is not None:
                    self._delete(self._root.path / uri)

    def _subfolders(self, name: str) -> list[Path]:
        folder = self._root.path / name
        return [path for path in sorted(folder.iterdir()) if path.is_dir()] if folder.is_dir() else []

    def _delete_folder(self, folder: Path) -> None:
        if not folder.is_dir() or folder.is_symlink():
            return
        for path in sorted(folder.rglob("*")):
            if path.is_symlink() or path.is_file():
                self._delete(path)
        shutil.rmtree(folder)

    def _delete(self, path: Path) -> None:
        """Delete a file below the root; the ledger's paths are no way out of it."""
        if not path.absolute().is_relative_to(self._root.path) or not (path.is_file() or path.is_symlink()):
            return
        self.bytes += path.lstat().st_size
        self.count += 1
        path.unlink(missing_ok=True)
