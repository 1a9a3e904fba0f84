"""The caption table: its columns, and how it is written as Parquet and as JSON lines.

One row per window. The same ledger gives the same bytes: rows are in reading order and no time of writing is inside.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import polars as pl
from filelock import FileLock

from caption_assets.ledger.database import Ledger
from caption_assets.ledger.schema import POLARS_TYPES, Column
from caption_assets.root import RootFolder

LOCK_POLL_S = 0.05

COLUMNS: tuple[Column, ...] = (
    Column("batch", "VARCHAR", "batch (partition)"),
    Column("clip_path", "VARCHAR", "path below the folder of the batch in uploads/"),
    Column("clip_id", "VARCHAR", "identity of the clip's content"),
    Column("clip_sha256", "VARCHAR", "SHA-256 of the bytes of the clip's file"),
    Column("window_id", "VARCHAR", "identity of the window"),
    Column("window_index", "INTEGER", "position in the clip, from 0"),
    Column("start_frame", "INTEGER", "first frame, counted from 0"),
    Column("end_frame", "INTEGER", "last frame, inclusive"),
    Column("start_s", "DOUBLE", "time of the first frame, seconds from the clip's first frame"),
    Column("end_s", "DOUBLE", "end of the last frame, seconds from the clip's first frame"),
    Column("frame_indices", "INTEGER[]", "sampled frames, numbered in the clip"),
    Column("frame_times_s", "DOUBLE[]", "their times, seconds from the clip's first frame"),
    Column("clip_start_frame", "INTEGER", "the clip's first frame in its file, counted from 0; 0 for a whole file"),
    Column("clip_start_s", "DOUBLE", "its time, seconds from the file's first frame"),
    Column("source_start_s", "DOUBLE", "time of the window's first frame, seconds from the file's first frame"),
    Column("source_end_s", "DOUBLE", "end of the window's last frame, seconds from the file's first frame"),
    Column("status", "VARCHAR", "captioned, not_captioned, no_valid_candidate or window_error"),
    Column("error", "VARCHAR", "why there is no caption", nullable=True),
    Column("caption", "VARCHAR", "the kept caption, the best one where several are kept", nullable=True),
    Column("captions", "VARCHAR[]", "all kept captions, best first", nullable=True),
    Column("caption_status", "VARCHAR", "ok, or truncated at the token limit", nullable=True),
    Column("is_current", "BOOLEAN", "made by the caption recipe that is current for the batch", nullable=True),
    Column("duplicate_of", "VARCHAR", "the window whose caption it is, where this one is collapsed", nullable=True),
    Column("n_candidates", "BIGINT", "candidates that were considered"),
    Column(
        "enhanced_caption",
        "VARCHAR",
        "the caption rewritten by the text model, or the caption itself: see enhanced_status",
        nullable=True,
    ),
    Column(
        "enhanced_status",
        "VARCHAR",
        "ok, truncated (at the token limit), flagged (it drifted), fallback (it drifted: the caption stands in its "
        "place), unchecked (so too), or there is none: skipped, empty, refused, error; NULL where "
        "enhancement is off or has not run",
        nullable=True,
    ),
    Column(
        "enhanced_reason",
        "VARCHAR",
        "what drifted, with the words; or why there is no enhanced caption: truncated, refused, empty, error (the "
        "caption), no_valid_candidate, not_captioned, window_error (the window), or the error of the text model",
        nullable=True,
    ),
    Column("drift", "VARCHAR", "result of the drift check: ok, drifted or unchanged", nullable=True),
    Column("original_caption", "VARCHAR", "the caption that came with the video", nullable=True),
    Column("preview_path", "VARCHAR", "moving preview (WebP, AVIF or MP4), below the root folder", nullable=True),
    Column("poster_path", "VARCHAR", "still picture of the preview (JPEG), below the root folder", nullable=True),
    Column("model_id", "VARCHAR", "model of the caption", nullable=True),
    Column("model_revision", "VARCHAR", "its resolved revision", nullable=True),
    Column("engine", "VARCHAR", "engine that ran it", nullable=True),
    Column("engine_version", "VARCHAR", "version of the engine", nullable=True),
    Column("prompt_sha256", "VARCHAR", "SHA-256 of the prompt", nullable=True),
    Column("prompt", "VARCHAR", "the prompt, word for word", nullable=True),
    Column("seed", "BIGINT", "seed of the sampling", nullable=True),
    Column("caption_stage", "INTEGER", "1, or 2 where the model refined its first caption", nullable=True),
    Column("enhance_model_id", "VARCHAR", "model of the enhanced caption", nullable=True),
    Column("enhance_model_revision", "VARCHAR", "its resolved revision", nullable=True),
    Column("candidate_id", "VARCHAR", "the kept candidate in the ledger", nullable=True),
    Column("decision_id", "VARCHAR", "the decision that kept it", nullable=True),
    Column("reason_code", "VARCHAR", "why it was kept", nullable=True),
    Column("policy", "VARCHAR", "the policy that decided", nullable=True),
    Column("decided_by", "VARCHAR", "policy, or user:NAME", nullable=True),
    Column("window_recipe_id", "VARCHAR", "recipe of the window"),
    Column("caption_recipe_id", "VARCHAR", "recipe of the caption", nullable=True),
    Column("enhance_recipe_id", "VARCHAR", "recipe of the enhanced caption", nullable=True),
    Column("preview_recipe_id", "VARCHAR", "recipe of the preview", nullable=True),
    Column("codec", "VARCHAR", "video codec of the clip"),
    Column("fps", "DOUBLE", "average frame rate of the clip"),
    Column("n_frames", "INTEGER", "frames of the clip"),
    Column("duration_s", "DOUBLE", "seconds of the clip"),
    Column("display_width", "INTEGER", "width of the clip as shown, pixels"),
    Column("display_height", "INTEGER", "height of the clip as shown, pixels"),
    Column("has_audio", "BOOLEAN", "the clip has an audio stream"),
    Column("flags", "VARCHAR[]", "what is unusual about the clip, e.g. vfr, truncated"),
)

Row = Mapping[str, object]


def caption_rows(ledger: Ledger, batch: str) -> list[dict[str, object]]:
    """Return the caption table of a batch, one row per window, in the order of path, clip and frame."""
    return ledger.named("caption_table", batch=batch)


def write_parquet(rows: Sequence[Row], path: Path) -> None:
    """Write the table as Parquet; each column's meaning is in the file's metadata under its name."""
    schema = {column.name: POLARS_TYPES[column.type] for column in COLUMNS}
    frame = pl.DataFrame([dict(row) for row in rows], schema=schema, orient="row")
    meanings = {column.name: column.meaning for column in COLUMNS}
    _replace(path, lambda temporary: frame.write_parquet(temporary, metadata=meanings))


def write_jsonl(rows: Sequence[Row], path: Path) -> None:
    """Write the table as UTF-8 JSON lines, one window a line, keys in the order of the columns."""
    lines = "".join(json_line(row) + "\n" for row in rows)
    _replace(path, lambda temporary: temporary.write_text(lines, encoding="utf-8"))


def json_line(row: Row) -> str:
    """Return one row as one line of JSON."""
    return json.dumps({column.name: row[column.name] for column in COLUMNS}, ensure_ascii=False)


FORMATS: Mapping[str, tuple[str, Callable[[Sequence[Row], Path], None]]] = {
    "parquet": ("captions.parquet", write_parquet),
    "jsonl": ("captions.jsonl", write_jsonl),
}
"""Formats of the caption table: name of the file, and how it is written."""


def write_tables(root: RootFolder, ledger: Ledger, batch: str, *, again: bool = False) -> list[dict[str, object]]:
    """Write the caption table of a batch into its folder in `exports/`, in every format; return its rows.

    again: only if the folder is there: a batch that was never exported has no table to correct. One process at a time
    reads the rows and writes them, so that none writes rows over newer ones, which may lack what was taken down.
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
