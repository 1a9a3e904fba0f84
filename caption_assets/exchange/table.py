"""The caption table: its columns, and how it is written as Parquet and as JSON lines.

One row per window. The same ledger gives the same bytes: rows are in reading order and hold no time of writing.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from filelock import FileLock

from caption_assets.ledger import upkeep
from caption_assets.ledger.captions import clip_facts
from caption_assets.ledger.database import Ledger
from caption_assets.ledger.schema import CaptionRow, ClipRow, Column, column, columns_of, polars_types, record
from caption_assets.ledger.store import Session
from caption_assets.root import RootFolder

LOCK_POLL_S = 0.05


@record
class TableRow(CaptionRow):
    """A window of the caption table: its row of `captions`, with the frames, the prompt and the facts of its clip."""

    clip_sha256: str = column("SHA-256 of the bytes of the clip's file")
    frame_indices: list[int] = column("sampled frames, numbered in the clip")
    frame_times_s: list[float] = column("their times, seconds from the clip's first frame")
    source_start_s: float = column("time of the window's first frame, seconds from the file's first frame")
    source_end_s: float = column("end of the window's last frame, seconds from the file's first frame")
    prompt: str | None = column("the prompt, word for word", default=None)
    enhance_model_id: str | None = column("model of the enhanced caption", default=None)
    enhance_model_revision: str | None = column("its resolved revision", default=None)
    codec: str = column("video codec of the clip")
    pix_fmt: str = column("pixel format of the clip")
    fps: float = column("average frame rate of the clip")
    n_frames: int = column("frames of the clip", sql="INTEGER")
    duration_s: float = column("seconds of the clip")
    display_width: int = column("width of the clip as shown, pixels", sql="INTEGER")
    display_height: int = column("height of the clip as shown, pixels", sql="INTEGER")
    has_audio: bool = column("the clip has an audio stream")
    flags: list[str] = column("what is unusual about the clip, e.g. vfr, truncated")
    bytes: int = column("size of the clip's file")

    @property
    def is_whole_file(self) -> bool:
        """The clip is a file, and not a part of one."""
        return self.clip_id == self.source_clip_id


CLIP_FACTS = (
    "codec", "pix_fmt", "fps", "n_frames", "duration_s", "display_width", "display_height", "has_audio", "flags",
    "bytes",
)  # fmt: skip
"""Columns that a row has from its clip."""

WRITTEN = (
    "batch", "clip_path", "clip_id", "clip_sha256", "window_id", "window_index", "start_frame", "end_frame", "start_s",
    "end_s", "frame_indices", "frame_times_s", "clip_start_frame", "clip_start_s", "source_start_s", "source_end_s",
    "status", "error", "caption", "captions", "caption_status", "is_current", "duplicate_of", "n_candidates",
    "enhanced_caption", "enhanced_status", "enhanced_reason", "drift", "original_caption", "preview_path",
    "poster_path", "model_id", "model_revision", "engine", "engine_version", "prompt_sha256", "prompt", "seed",
    "caption_stage", "enhance_model_id", "enhance_model_revision", "candidate_id", "decision_id", "reason_code",
    "policy", "decided_by", "window_recipe_id", "caption_recipe_id", "enhance_recipe_id", "preview_recipe_id", "codec",
    "fps", "n_frames", "duration_s", "display_width", "display_height", "has_audio", "flags",
)  # fmt: skip
"""The columns of the files, in order."""

_declared = {each.name: each for each in columns_of(TableRow)}
COLUMNS: tuple[Column, ...] = tuple(_declared[name] for name in WRITTEN)


@dataclass(frozen=True, slots=True)
class SampledFrames:
    """The frames that were sampled from a window, numbered in its clip, and their times in seconds."""

    window_id: str
    frame_indices: list[int]
    frame_times_s: list[float]


@dataclass(frozen=True, slots=True)
class RecipeModel:
    """The model of a recipe."""

    recipe_id: str
    model_id: str | None
    model_revision: str | None


def caption_rows(ledger: Ledger, batch: str) -> list[TableRow]:
    """Return the caption table of a batch, one row per window, in the order of path, clip and frame."""
    return ledger.read(read_table, batch)


def read_table(session: Session, batch: str) -> list[TableRow]:
    """Return what `caption_rows` does, within a session."""

    def of_batch(name: str) -> str:
        return f"{name} IN (SELECT {name} FROM captions WHERE batch = $batch)"

    rows = upkeep.batch_rows(session, batch)
    clips = clip_facts(session.select(ClipRow, f"clips WHERE {of_batch('clip_id')}", batch=batch))
    sampled = session.select(SampledFrames, f"windows WHERE {of_batch('window_id')}", batch=batch)
    frames = {each.window_id: each for each in sampled}
    prompts = dict(session.rows(f"SELECT prompt_sha256, text FROM prompts WHERE {of_batch('prompt_sha256')}",
                                batch=batch))  # fmt: skip
    recipes = "recipes WHERE recipe_id IN (SELECT enhance_recipe_id FROM captions WHERE batch = $batch)"
    models = {each.recipe_id: each for each in session.select(RecipeModel, recipes, batch=batch)}
    return [
        _table_row(row, clips[row.clip_id], frames[row.window_id], prompts, models.get(row.enhance_recipe_id or ""))
        for row in rows
    ]


_SERVED = tuple(field.name for field in fields(CaptionRow))


def _table_row(
    row: CaptionRow, clip: ClipRow, frames: SampledFrames, prompts: Mapping[str, str], enhancer: RecipeModel | None
) -> TableRow:
    if row.candidate_id is None:  # the files name the decision that kept a caption, and no other
        row = replace(row, decision_id=None, policy=None, decided_by=None)
    return TableRow(
        **{name: getattr(row, name) for name in _SERVED},
        **{name: getattr(clip, name) for name in CLIP_FACTS},
        clip_sha256=clip.video_sha256,
        frame_indices=frames.frame_indices,
        frame_times_s=frames.frame_times_s,
        source_start_s=row.clip_start_s + row.start_s,
        source_end_s=row.clip_start_s + row.end_s,
        prompt=prompts.get(row.prompt_sha256 or ""),
        enhance_model_id=enhancer.model_id if enhancer else None,
        enhance_model_revision=enhancer.model_revision if enhancer else None,
    )


def written_values(row: TableRow) -> dict[str, object]:
    """Return the values of a row by the columns of the files, in their order."""
    return {name: getattr(row, name) for name in WRITTEN}


def write_parquet(rows: Sequence[TableRow], path: Path) -> None:
    """Write the table as Parquet; each column's meaning is in the file's metadata under its name."""
    import polars as pl

    schema = {each.name: polars_types()[each.type] for each in COLUMNS}
    frame = pl.DataFrame([written_values(row) for row in rows], schema=schema, orient="row")
    meanings = {each.name: each.meaning for each in COLUMNS}
    _replace(path, lambda temporary: frame.write_parquet(temporary, metadata=meanings))


def write_jsonl(rows: Sequence[TableRow], path: Path) -> None:
    """Write the table as UTF-8 JSON lines, one window a line, keys in the order of the columns."""
    lines = "".join(json_line(row) + "\n" for row in rows)
    _replace(path, lambda temporary: temporary.write_text(lines, encoding="utf-8"))


def json_line(row: TableRow) -> str:
    """Return one row as one line of JSON."""
    return json.dumps(written_values(row), ensure_ascii=False)


FORMATS: Mapping[str, tuple[str, Callable[[Sequence[TableRow], Path], None]]] = {
    "parquet": ("captions.parquet", write_parquet),
    "jsonl": ("captions.jsonl", write_jsonl),
}
"""Formats of the caption table: name of the file, and how it is written."""


def write_tables(root: RootFolder, ledger: Ledger, batch: str, *, again: bool = False) -> list[TableRow]:
    """Write the caption table of a batch into its folder in `exports/`, in every format; return its rows.

    One process at a time reads the rows and writes them, so that none replaces newer ones, which may lack what was
    taken down.

    again: only if the folder is there: a batch that was never exported has no table to correct.
    """
    folder, lock = root.exports(batch), root.tables_lock(batch)
    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock, poll_interval=LOCK_POLL_S):
        if again and not folder.is_dir():
            return []
        rows = caption_rows(ledger, batch)
        for name, write in FORMATS.values():
            write(rows, folder / name)
        return rows


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    """Write under a temporary name in the same folder, then rename: a reader sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
