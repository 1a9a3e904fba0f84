"""The ledger's tables, each declared once: DDL, part files, checks, docs and UI column schemas come from here.

All tables are append-only. A row is identified by its table's key; a row whose key is there already is not inserted
again, so that committing the same part twice changes nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import polars as pl

SCHEMA_VERSION = 6
"""Bumped with any change of a table or a view. A database of another version is rebuilt from the parts."""

POLARS_TYPES: Mapping[str, pl.DataType] = {
    "VARCHAR": pl.String(),
    "JSON": pl.String(),
    "BIGINT": pl.Int64(),
    "INTEGER": pl.Int32(),
    "DOUBLE": pl.Float64(),
    "BOOLEAN": pl.Boolean(),
    "TIMESTAMPTZ": pl.Datetime("us", "UTC"),
    "INTEGER[]": pl.List(pl.Int32()),
    "DOUBLE[]": pl.List(pl.Float64()),
    "UTINYINT[]": pl.List(pl.UInt8()),
    "UBIGINT[]": pl.List(pl.UInt64()),
    "VARCHAR[]": pl.List(pl.String()),
}
"""The SQL types that tables use, with the type of the same column in a part file."""


@dataclass(frozen=True)
class Column:
    """A column: name, SQL type (one of POLARS_TYPES), meaning, and whether it may be NULL."""

    name: str
    type: str
    meaning: str
    nullable: bool = False


@dataclass(frozen=True)
class Table:
    """A table: `key` names the columns that identify a row.

    A row that is about a clip or a window has one more column in the database, not in the parts: `first_upload_at`, see
    `sql/views.sql`. So has a row that is asked for by an id alone, `found_by`: the lower half of the id's MD5 as
    `<found_by>_md5`. To compare a number with that of a million rows takes a seventh of the time that text takes.
    """

    name: str
    meaning: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    about: Literal["clip", "window"] | None = None
    found_by: str | None = None

    @cached_property
    def polars_schema(self) -> pl.Schema:
        """Types of a part file of this table."""
        return pl.Schema({column.name: POLARS_TYPES[column.type] for column in self.columns})

    @property
    def database_columns(self) -> tuple[str, ...]:
        """Names of the columns in the database."""
        return (*(column.name for column in self.columns), *self._added)

    @property
    def _added(self) -> Mapping[str, str]:
        """Columns that the database has and parts have not, with their SQL types."""
        return {
            **({f"{self.found_by}_md5": "UBIGINT"} if self.found_by else {}),
            **({"first_upload_at": "TIMESTAMPTZ"} if self.about else {}),
        }

    @property
    def ddl(self) -> str:
        """The CREATE TABLE statement. Keys are kept by anti-join on insert, which costs a third of an index."""
        lines = [f"  {c.name} {c.type}{'' if c.nullable else ' NOT NULL'}" for c in self.columns]
        lines += [f"  {name} {type_} NOT NULL" for name, type_ in self._added.items()]
        return f"CREATE TABLE IF NOT EXISTS {self.name} (\n" + ",\n".join(lines) + "\n)"


def _made(by: str = "the run") -> tuple[Column, Column]:
    return (
        Column("run_id", "VARCHAR", f"Dagster run, or command, of {by} that wrote the row"),
        Column("created_at", "TIMESTAMPTZ", "when the row was made"),
    )


_GENERATION = (
    Column("text", "VARCHAR", "what the engine answered; empty where it failed", nullable=True),
    Column("finish_reason", "VARCHAR", "stop, length or error", nullable=True),
    Column("seed", "BIGINT", "seed of the sampling", nullable=True),
    Column("reasoning", "VARCHAR", "what the model thought before it answered", nullable=True),
    Column("expected_prompt_tokens", "INTEGER", "tokens reckoned before sending", nullable=True),
    Column("prompt_tokens", "INTEGER", "tokens the engine read", nullable=True),
    Column("output_tokens", "INTEGER", "tokens the engine wrote", nullable=True),
    Column("latency_ms", "DOUBLE", "milliseconds from request to completion", nullable=True),
    Column("error", "VARCHAR", "why there is no text, or what is wrong with it", nullable=True),
)

TABLES: Mapping[str, Table] = {
    table.name: table
    for table in (
        Table(
            "recipes",
            "what can run: every setting that changes a result, stored once",
            ("recipe_id",),
            (
                Column("recipe_id", "VARCHAR", "identity: kind and canonical parameters, hashed"),
                Column(
                    "kind",
                    "VARCHAR",
                    "clip, split, window, dedupe, caption, enhance, drift, on_drift, preview, judge or retention",
                ),
                Column("name", "VARCHAR", "label for people; not part of the identity"),
                Column("params", "JSON", "canonical JSON of every parameter, with code_version"),
                Column("model_id", "VARCHAR", "model", nullable=True),
                Column("model_revision", "VARCHAR", "resolved revision of the model", nullable=True),
                Column("engine", "VARCHAR", "engine that ran the model", nullable=True),
                Column("engine_version", "VARCHAR", "version of that engine", nullable=True),
                Column("prompt_sha256", "VARCHAR", "prompt, see table prompts", nullable=True),
                Column("code_version", "VARCHAR", "bumped by hand when code changes results"),
                *_made(),
            ),
        ),
        Table(
            "prompts",
            "every prompt text that was ever sent",
            ("prompt_sha256",),
            (
                Column("prompt_sha256", "VARCHAR", "SHA-256 of the text"),
                Column("name", "VARCHAR", "variant name, or custom"),
                Column("version", "INTEGER", "version of the variant"),
                Column("text", "VARCHAR", "the text, word for word"),
                *_made(),
            ),
        ),
        Table(
            "active_recipes",
            "which recipe is current for a stage of a batch, since when; the newest row wins",
            ("kind", "batch", "recipe_id", "valid_from"),
            (
                Column("kind", "VARCHAR", "kind of recipe"),
                Column("batch", "VARCHAR", "batch (partition)"),
                Column("recipe_id", "VARCHAR", "the recipe"),
                Column("valid_from", "TIMESTAMPTZ", "since when"),
                Column("set_by", "VARCHAR", "run, or user:NAME"),
                Column("note", "VARCHAR", "why", nullable=True),
                *_made(),
            ),
        ),
        Table(
            "clip_recipes",
            "which caption recipe is current for a clip of a batch that has a prompt of its own; the newest row wins",
            ("batch", "clip_id", "valid_from"),
            (
                Column("batch", "VARCHAR", "batch (partition)"),
                Column("clip_id", "VARCHAR", "the clip that is the whole file"),
                Column("recipe_id", "VARCHAR", "caption recipe; NULL: that of the batch again", nullable=True),
                Column("prompt_key", "VARCHAR", "where its prompt comes from; NULL as above", nullable=True),
                Column("valid_from", "TIMESTAMPTZ", "since when"),
                *_made(),
            ),
        ),
        Table(
            "runs",
            "a Dagster run of an asset on a batch",
            ("run_id", "asset_key", "batch", "attempt"),
            (
                Column("asset_key", "VARCHAR", "asset"),
                Column("batch", "VARCHAR", "batch (partition)"),
                Column("attempt", "INTEGER", "retry number of the step, from 1"),
                Column("status", "VARCHAR", "ok, partial (some rows failed) or failed"),
                Column("started_at", "TIMESTAMPTZ", "start of the step"),
                Column("ended_at", "TIMESTAMPTZ", "end of the step"),
                Column("n_expected", "BIGINT", "items the batch has for this asset"),
                Column("n_ok", "BIGINT", "items made now"),
                Column("n_error", "BIGINT", "items that failed now"),
                Column("n_reused", "BIGINT", "items that were there already"),
                Column("versions", "JSON", "versions of this package and of the libraries that matter"),
                Column("host", "VARCHAR", "machine"),
                Column("gpu", "VARCHAR", "GPU, where there is one", nullable=True),
                Column("error", "VARCHAR", "why the step failed", nullable=True),
                *_made(),
            ),
        ),
        Table(
            "uploads",
            "a file of a batch; the newest row of a path wins; membership of a batch lives here",
            ("batch", "path", "run_id", "created_at"),
            (
                Column("batch", "VARCHAR", "batch (partition)"),
                Column("path", "VARCHAR", "path below the folder of the batch in uploads/"),
                Column("bytes", "BIGINT", "size of the file", nullable=True),
                Column("mtime_ns", "BIGINT", "modification time, nanoseconds since 1970", nullable=True),
                Column("sha256", "VARCHAR", "SHA-256 of the bytes", nullable=True),
                Column("clip_id", "VARCHAR", "the clip that is the whole file; NULL where quarantined", nullable=True),
                Column("status", "VARCHAR", "ok, quarantined, or gone: the file was there and is not any more"),
                Column("error", "VARCHAR", "why it is quarantined, or what is odd about an ok file", nullable=True),
                Column("original_caption", "VARCHAR", "caption from the sidecar file", nullable=True),
                Column("sidecar_mtime_ns", "BIGINT", "modification time of the sidecar", nullable=True),
                Column(
                    "columns",
                    "JSON",
                    "texts of the JSON sidecar by their keys; null where a value is no text",
                    nullable=True,
                ),
                Column("columns_mtime_ns", "BIGINT", "modification time of the JSON sidecar", nullable=True),
                Column("recipe_id", "VARCHAR", "clip recipe that probed it"),
                *_made(),
            ),
        ),
        Table(
            "samples",
            "a sample that a batch was imported with, so that it can be exported again as it came",
            ("batch", "sample_index"),
            (
                Column("batch", "VARCHAR", "batch (partition)"),
                Column("sample_index", "INTEGER", "position among the samples of its file, from 0"),
                Column("text", "VARCHAR", "its text, with special tokens"),
                Column("videos", "VARCHAR[]", "its videos, as paths below the batch, in the order of the video tokens"),
                Column("columns", "JSON", "its other columns"),
                Column("origin", "VARCHAR", "the format that it came in"),
                *_made("the import"),
            ),
        ),
        Table(
            "clips",
            "a clip (content): a file, or a part of one; facts from packets and decoded frames, not from headers",
            ("clip_id", "recipe_id"),
            (
                Column("clip_id", "VARCHAR", "identity by content, and by its frames where it is a part of a file"),
                Column("recipe_id", "VARCHAR", "clip recipe, or the split recipe that made it a clip of its own"),
                Column("video_sha256", "VARCHAR", "SHA-256 of the file"),
                Column("bytes", "BIGINT", "size of the file"),
                Column("container", "VARCHAR", "container format"),
                Column("codec", "VARCHAR", "video codec"),
                Column("pix_fmt", "VARCHAR", "pixel format"),
                Column("bit_depth", "INTEGER", "bits per component"),
                Column("n_frames", "INTEGER", "frames that are really there"),
                Column("declared_frames", "INTEGER", "frames the header claims; 0 where it claims nothing"),
                Column("first_pts_s", "DOUBLE", "presentation time of the first frame, seconds"),
                Column("duration_s", "DOUBLE", "from the first frame to the end of the last, seconds"),
                Column("fps", "DOUBLE", "average frame rate"),
                Column("is_vfr", "BOOLEAN", "the frame rate varies"),
                Column("width", "INTEGER", "coded width in pixels"),
                Column("height", "INTEGER", "coded height in pixels"),
                Column("rotation", "INTEGER", "degrees clockwise that turn the coded picture upright"),
                Column("sample_aspect_ratio", "VARCHAR", "width:height of a pixel"),
                Column("display_width", "INTEGER", "width as shown: upright, square pixels"),
                Column("display_height", "INTEGER", "height as shown: upright, square pixels"),
                Column("color_range", "VARCHAR", "limited, full or unspecified"),
                Column("color_space", "VARCHAR", "matrix"),
                Column("color_primaries", "VARCHAR", "primaries"),
                Column("color_transfer", "VARCHAR", "transfer function"),
                Column("has_audio", "BOOLEAN", "there is an audio stream"),
                Column("n_key_frames", "INTEGER", "key frames of the file"),
                Column("flags", "VARCHAR[]", "what is unusual, e.g. vfr, truncated, header_frame_count_wrong"),
                Column("notes", "VARCHAR[]", "a sentence for each flag that needs one; of a part, see its file"),
                Column("source_clip_id", "VARCHAR", "the whole file; NULL where the clip is one", nullable=True),
                Column("source_start_frame", "INTEGER", "first frame, counted from the file's first", nullable=True),
                Column("source_end_frame", "INTEGER", "last frame, inclusive, as above", nullable=True),
                Column("source_start_s", "DOUBLE", "time of the first frame from the file's first, s", nullable=True),
                Column("source_end_s", "DOUBLE", "end of the last frame from the file's first, s", nullable=True),
                Column("cut_score", "DOUBLE", "score of the scene cut before it, where there is one", nullable=True),
                *_made(),
            ),
        ),
        Table(
            "clip_sets",
            "the fan-out manifest of split files: a row per file (content) and split recipe",
            ("source_clip_id", "recipe_id", "run_id", "created_at"),
            (
                Column("source_clip_id", "VARCHAR", "the clip that is the whole file"),
                Column("recipe_id", "VARCHAR", "split recipe"),
                Column("n_clips", "INTEGER", "clips that it was split into; 1: there was nothing to split"),
                Column("clip_ids", "VARCHAR[]", "the clips in order"),
                Column("status", "VARCHAR", "ok, or error (tried again by the next run)"),
                Column("error", "VARCHAR", "why", nullable=True),
                *_made(),
            ),
        ),
        Table(
            "window_sets",
            "the fan-out manifest: a row per clip and window recipe, also for 0 windows",
            ("clip_id", "recipe_id", "run_id", "created_at"),
            (
                Column("clip_id", "VARCHAR", "clip"),
                Column("recipe_id", "VARCHAR", "window recipe"),
                Column("n_windows", "INTEGER", "windows of the clip"),
                Column("window_ids_sha256", "VARCHAR", "hash of their ids, in order"),
                Column("status", "VARCHAR", "ok, too_short (no window) or error (tried again by the next run)"),
                Column("error", "VARCHAR", "why", nullable=True),
                *_made(),
            ),
            about="clip",
        ),
        Table(
            "windows",
            "a run of frames of a clip, and the frames sampled from it",
            ("window_id",),
            (
                Column("window_id", "VARCHAR", "identity: clip, frames, window recipe"),
                Column("clip_id", "VARCHAR", "clip"),
                Column("recipe_id", "VARCHAR", "window recipe"),
                Column("window_index", "INTEGER", "position in the clip, from 0; not part of the identity"),
                Column("start_frame", "INTEGER", "first frame"),
                Column("end_frame", "INTEGER", "last frame, inclusive"),
                Column("start_s", "DOUBLE", "time of the first frame, seconds from the clip's first frame"),
                Column("end_s", "DOUBLE", "end of the last frame, seconds from the clip's first frame"),
                Column("frame_indices", "INTEGER[]", "sampled frames, numbered in the clip"),
                Column("frame_times_s", "DOUBLE[]", "their times, seconds from the clip's first frame"),
                Column(
                    "frame_hashes",
                    "UBIGINT[]",
                    "dHash of each sampled frame, 64 bits; bit_count(xor(a, b)) / 64 is how far two pictures are apart",
                    nullable=True,
                ),
                Column("luma_low", "UTINYINT[]", "lowest luma of each of 8 rows of 9 cells, 0 to 255", nullable=True),
                Column("luma_high", "UTINYINT[]", "highest luma of each cell", nullable=True),
                Column("color", "VARCHAR", "mean colour of the sampled frames, #rrggbb", nullable=True),
                Column("frames_digest", "VARCHAR", "equal where the sampled frames have equal pixels", nullable=True),
                Column("status", "VARCHAR", "ok, or error: a sampled frame does not decode"),
                Column("error", "VARCHAR", "which, and why", nullable=True),
                *_made(),
            ),
            about="clip",
            found_by="window_id",
        ),
        Table(
            "window_duplicates",
            "a decision that a window is collapsed: it needs no captions, those of an earlier window are shown for it",
            ("window_id", "recipe_id"),
            (
                Column("window_id", "VARCHAR", "the window that is collapsed"),
                Column("duplicate_of", "VARCHAR", "the earlier window of the same clip that stands for it"),
                Column("recipe_id", "VARCHAR", "dedupe recipe"),
                Column("mode", "VARCHAR", "exact or near"),
                Column("distance", "DOUBLE", "mean share of hash bits that differ, 0 to 1"),
                Column("evidence", "JSON", "everything the decision rests on"),
                *_made(),
            ),
            about="window",
        ),
        Table(
            "caption_candidates",
            "an answer of an engine, or an original caption, for a window",
            ("candidate_id",),
            (
                Column("candidate_id", "VARCHAR", "identity: task, index, attempt"),
                Column("task_id", "VARCHAR", "identity of the work: window and caption recipe"),
                Column("window_id", "VARCHAR", "window"),
                Column("recipe_id", "VARCHAR", "caption recipe"),
                Column("sample_index", "INTEGER", "which of the n candidates, from 0"),
                Column("attempt", "INTEGER", "from 1; one more after an error"),
                Column("stage", "INTEGER", "1, or 2 where the model refined its first caption"),
                Column("parent_candidate_id", "VARCHAR", "stage 2: the caption it refined", nullable=True),
                Column("origin", "VARCHAR", "model, or original (from a sidecar)"),
                Column("status", "VARCHAR", "ok, truncated, empty, refused or error"),
                *_GENERATION,
                *_made(),
            ),
            about="window",
        ),
        Table(
            "judgements",
            "a judge's answer on two candidates of a window, in the order in which it read them",
            ("judgement_id",),
            (
                Column("judgement_id", "VARCHAR", "identity: judge recipe, both candidates in order, attempt"),
                Column("window_id", "VARCHAR", "window"),
                Column("recipe_id", "VARCHAR", "judge recipe"),
                Column("first_candidate_id", "VARCHAR", "the caption it read first"),
                Column("second_candidate_id", "VARCHAR", "the caption it read second"),
                Column("attempt", "INTEGER", "from 1; one more after an error"),
                Column("choice", "VARCHAR", "first or second; NULL where it named neither", nullable=True),
                Column("status", "VARCHAR", "ok or error"),
                *_GENERATION,
                *_made(),
            ),
            about="window",
        ),
        Table(
            "retention_decisions",
            "a verdict on each candidate considered; a decision is the rows with one decision_id",
            ("decision_id", "candidate_id"),
            (
                Column("decision_id", "VARCHAR", "identity: window, policy recipe, candidate set, reference caption"),
                Column("candidate_id", "VARCHAR", "the candidate judged"),
                Column("window_id", "VARCHAR", "window"),
                Column("recipe_id", "VARCHAR", "caption recipe of the candidates"),
                Column("policy_recipe_id", "VARCHAR", "retention recipe"),
                Column("candidate_set_sha256", "VARCHAR", "hash of the candidate ids considered together"),
                Column("reference_sha256", "VARCHAR", "hash of the original caption that was compared", nullable=True),
                Column("action", "VARCHAR", "keep or drop; withdraw: a person took an override back"),
                Column("reason_code", "VARCHAR", "why"),
                Column("rank", "INTEGER", "1 is the best; NULL where a gate dropped it", nullable=True),
                Column("score", "DOUBLE", "score of the policy", nullable=True),
                Column("evidence", "JSON", "everything the verdict rests on"),
                Column("policy", "VARCHAR", "policy by name"),
                Column("decided_by", "VARCHAR", "policy, or user:NAME"),
                *_made(),
            ),
            about="window",
        ),
        Table(
            "enhanced_captions",
            "a rewritten caption, or the reason why there is none",
            ("enhanced_id",),
            (
                Column("enhanced_id", "VARCHAR", "identity: task and attempt"),
                Column("task_id", "VARCHAR", "identity of the work: candidate and enhance recipe"),
                Column("candidate_id", "VARCHAR", "the caption it was made from"),
                Column("window_id", "VARCHAR", "window"),
                Column("recipe_id", "VARCHAR", "enhance recipe"),
                Column("attempt", "INTEGER", "from 1; one more after an error"),
                Column("status", "VARCHAR", "ok, truncated, empty, refused or error"),
                *_GENERATION,
                *_made(),
            ),
            about="window",
        ),
        Table(
            "drift_checks",
            "an enhanced caption compared with its source and the other candidates of its window",
            ("check_id",),
            (
                Column("check_id", "VARCHAR", "identity: enhanced caption, drift recipe, candidates that bear it out"),
                Column("enhanced_id", "VARCHAR", "the enhanced caption"),
                Column("candidate_id", "VARCHAR", "the caption it was made from"),
                Column("window_id", "VARCHAR", "window"),
                Column("recipe_id", "VARCHAR", "drift recipe: the limits and the version of the check"),
                Column("support_sha256", "VARCHAR", "hash of the ids of the candidates it was compared with"),
                Column("status", "VARCHAR", "ok, drifted or unchanged"),
                Column("reason", "VARCHAR", "what made it drift, with the words", nullable=True),
                Column("evidence", "JSON", "every finding, measure, and what could not be checked"),
                *_made(),
            ),
            about="window",
        ),
        Table(
            "previews",
            "a small moving picture of a window and a still one; a folder holds those of a window's newest row there",
            ("window_id", "recipe_id", "run_id", "created_at"),
            (
                Column("window_id", "VARCHAR", "window"),
                Column("recipe_id", "VARCHAR", "preview recipe"),
                Column("uri", "VARCHAR", "path below the root", nullable=True),
                Column("sha256", "VARCHAR", "SHA-256 of the file", nullable=True),
                Column("bytes", "BIGINT", "size of the file", nullable=True),
                Column("width", "INTEGER", "pixels", nullable=True),
                Column("height", "INTEGER", "pixels", nullable=True),
                Column("n_frames", "INTEGER", "pictures in the animation", nullable=True),
                Column("poster_uri", "VARCHAR", "path of the still JPEG below the root", nullable=True),
                Column("poster_sha256", "VARCHAR", "SHA-256 of the still JPEG", nullable=True),
                Column("poster_bytes", "BIGINT", "size of the still JPEG", nullable=True),
                Column("warnings", "VARCHAR[]", "e.g. source height below target_height"),
                Column("status", "VARCHAR", "ok or error"),
                Column("error", "VARCHAR", "why there is no preview", nullable=True),
                *_made(),
            ),
            about="window",
        ),
        Table(
            "tombstones",
            "takedowns: nothing is deleted silently, live views hide what the newest row of an object takes down",
            ("object_kind", "object_id", "run_id", "created_at"),
            (
                Column("object_kind", "VARCHAR", "clip or batch"),
                Column("object_id", "VARCHAR", "clip_id, or name of the batch"),
                Column("reason_code", "VARCHAR", "TAKEDOWN, or WITHDRAWN: it is shown again"),
                Column("detail", "VARCHAR", "why, in the words of who asked", nullable=True),
                Column("requested_by", "VARCHAR", "user:NAME"),
                Column("files", "VARCHAR", "NULL: kept; deleting; deleted: there is no way back", nullable=True),
                Column("deleted_bytes", "BIGINT", "bytes of the files that were deleted", nullable=True),
                *_made("the command"),
            ),
        ),
        Table(
            "reproductions",
            "a stored candidate made again, so that reproducible is measured and not claimed",
            ("candidate_id", "run_id"),
            (
                Column("candidate_id", "VARCHAR", "the candidate"),
                Column("matched", "BOOLEAN", "the texts are equal"),
                Column("text", "VARCHAR", "the text made now"),
                *_made("the command"),
            ),
        ),
    )
}
