"""The ledger's tables, each declared once as a frozen dataclass: DDL, checks, docs and UI schemas come from here.

History tables are append-only: a table's key identifies a row, and a row whose key is already there is not inserted
again, so that committing the same rows twice changes nothing. The table `captions` alone says what is so now.
"""

import dataclasses
import inspect
import json
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Annotated, Any, ClassVar, TypeVar, Union, dataclass_transform, get_args, get_origin, get_type_hints

Json = Annotated[str, "JSON"]
"""A JSON document as text."""

SQL_TYPES: Mapping[object, str] = {
    str: "VARCHAR", Json: "JSON", int: "BIGINT", float: "DOUBLE", bool: "BOOLEAN", datetime: "TIMESTAMPTZ",
    list[str]: "VARCHAR[]", list[int]: "INTEGER[]", list[float]: "DOUBLE[]",
}  # fmt: skip
"""The SQL type of a field's type, unless the column names another."""


@cache
def polars_types() -> Mapping[str, Any]:
    """Return the polars dtype of each SQL type."""
    import polars as pl

    return {
        "VARCHAR": pl.String(), "JSON": pl.String(), "BIGINT": pl.Int64(), "INTEGER": pl.Int32(),
        "DOUBLE": pl.Float64(), "BOOLEAN": pl.Boolean(), "TIMESTAMPTZ": pl.Datetime("us", "UTC"),
        "INTEGER[]": pl.List(pl.Int32()), "DOUBLE[]": pl.List(pl.Float64()), "UTINYINT[]": pl.List(pl.UInt8()),
        "UBIGINT[]": pl.List(pl.UInt64()), "VARCHAR[]": pl.List(pl.String()),
    }  # fmt: skip


RowT = TypeVar("RowT", bound="Record")


def column(meaning: str, *, sql: str | None = None, default: Any = dataclasses.MISSING) -> Any:
    """Declare a column. sql: its type, where the field's type does not tell it. default: None where it may be NULL."""
    return dataclasses.field(default=default, metadata={"meaning": meaning, "sql": sql})


def as_json(value: object) -> str:
    """Return `value` as the canonical JSON that a column of type JSON holds; times as ISO 8601."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, default=datetime.isoformat)


@dataclass(frozen=True)
class Column:
    """A column: name, SQL type, meaning, and whether it may be NULL."""

    name: str
    type: str
    meaning: str
    nullable: bool = False


@dataclass(frozen=True)
class Table:
    """A table. key: the columns that identify a row. record: the class of its rows."""

    name: str
    meaning: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    record: type["Record"]

    @property
    def ddl(self) -> str:
        """The CREATE TABLE statement. Inserts keep keys unique by anti-join, which costs a third of an index."""
        lines = [f"  {c.name} {c.type}{'' if c.nullable else ' NOT NULL'}" for c in self.columns]
        return f"CREATE TABLE {self.name} (\n" + ",\n".join(lines) + "\n)"


class Record:
    """The base of every row."""

    __slots__ = ()
    table: ClassVar[Table]


TABLES: dict[str, Table] = {}
"""Every table by name, in the order of declaration."""


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(column,))
def table(name: str, key: Sequence[str]) -> Callable[[type[RowT]], type[RowT]]:
    """Declare the class as the rows of the table `name`; its docstring is the table's meaning."""

    def declare(cls: type[RowT]) -> type[RowT]:
        rows = dataclass(frozen=True, slots=True, kw_only=True)(cls)
        meaning = (cls.__doc__ or "").partition("\n")[0].rstrip(".")
        rows.table = TABLES[name] = Table(name, meaning, tuple(key), columns_of(rows), rows)
        return rows

    return declare


def columns_of(record: type) -> tuple[Column, ...]:
    """Return the columns of a dataclass of rows: its own, then those of its bases."""
    hints = get_type_hints(record, include_extras=True)
    fields = {field.name: field for field in dataclasses.fields(record)}
    own = [name for name in inspect.get_annotations(record) if name in fields]
    columns = []
    for name in dict.fromkeys([*own, *fields]):
        hint, nullable = hints[name], False
        if get_origin(hint) in (Union, types.UnionType):
            nullable = True
            hint = next(part for part in get_args(hint) if part is not type(None))
        about = fields[name].metadata
        columns.append(Column(name, about.get("sql") or SQL_TYPES[hint], about.get("meaning", ""), nullable))
    return tuple(columns)


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(column,))
def record(cls: type[RowT]) -> type[RowT]:
    """Declare rows that are no table of the ledger themselves: what several tables share, or a table adds up to."""
    return dataclass(frozen=True, slots=True, kw_only=True)(cls)


@record
class Row(Record):
    """Who wrote a row, and when."""

    run_id: str = column("Dagster run, or command, that wrote the row")
    created_at: datetime = column("when the row was made")


@record
class Generated(Row):
    """What an engine answered, and how."""

    text: str | None = column("what the engine answered; empty where it failed", default=None)
    finish_reason: str | None = column("stop, length or error", default=None)
    seed: int | None = column("seed of the sampling", default=None)
    reasoning: str | None = column("what the model thought before it answered", default=None)
    expected_prompt_tokens: int | None = column(
        "tokens that the request was expected to have", sql="INTEGER", default=None
    )
    prompt_tokens: int | None = column("tokens the engine read", sql="INTEGER", default=None)
    output_tokens: int | None = column("tokens the engine wrote", sql="INTEGER", default=None)
    latency_ms: float | None = column("milliseconds from request to completion", default=None)
    error: str | None = column("why there is no text, or what is wrong with it", default=None)


@table("recipes", key=("recipe_id",))
class RecipeRow(Row):
    """What can run: every setting that changes a result, stored once."""

    recipe_id: str = column("identity: kind and canonical parameters, hashed")
    kind: str = column("clip, split, window, dedupe, caption, enhance, drift, on_drift, preview, judge or retention")
    name: str = column("label for people; not part of the identity")
    params: Json = column("canonical JSON of every parameter, with code_version")
    model_id: str | None = column("model", default=None)
    model_revision: str | None = column("resolved revision of the model", default=None)
    engine: str | None = column("engine that ran the model", default=None)
    engine_version: str | None = column("version of that engine", default=None)
    prompt_sha256: str | None = column("prompt, see table prompts", default=None)
    code_version: str = column("bumped by hand when code changes results")


@table("prompts", key=("prompt_sha256",))
class PromptRow(Row):
    """Every prompt text that was ever sent."""

    prompt_sha256: str = column("SHA-256 of the text")
    name: str = column("variant name, or custom")
    version: int = column("version of the variant", sql="INTEGER")
    text: str = column("the text, word for word")


@table("active_recipes", key=("kind", "batch", "recipe_id", "valid_from"))
class ActiveRecipeRow(Row):
    """Which recipe is current for a stage of a batch, since when; the newest row wins."""

    kind: str = column("kind of recipe")
    batch: str = column("batch (partition)")
    recipe_id: str = column("the recipe")
    valid_from: datetime = column("since when")
    set_by: str = column("run, or user:NAME")
    note: str | None = column("why", default=None)


@table("clip_recipes", key=("batch", "clip_id", "valid_from"))
class ClipRecipeRow(Row):
    """Which caption recipe is current for a clip of a batch that has a prompt of its own; the newest row wins."""

    batch: str = column("batch (partition)")
    clip_id: str = column("the clip that is the whole file")
    recipe_id: str | None = column("caption recipe; NULL: that of the batch again", default=None)
    prompt_key: str | None = column("where its prompt comes from; NULL as above", default=None)
    valid_from: datetime = column("since when")


@table("runs", key=("run_id", "asset_key", "batch", "attempt"))
class RunRow(Row):
    """A Dagster run of an asset on a batch."""

    asset_key: str = column("asset")
    batch: str = column("batch (partition)")
    attempt: int = column("retry number of the step, from 1", sql="INTEGER")
    status: str = column("ok, partial (some rows failed) or failed")
    started_at: datetime = column("start of the step")
    ended_at: datetime = column("end of the step")
    n_expected: int = column("items the batch has for this asset")
    n_ok: int = column("items made now")
    n_error: int = column("items that failed now")
    n_reused: int = column("items that were there already")
    versions: Json = column("versions of this package and of the libraries that matter")
    host: str = column("machine")
    gpu: str | None = column("GPU, where there is one", default=None)
    error: str | None = column("why the step failed", default=None)


@table("uploads", key=("batch", "path", "run_id", "created_at"))
class UploadRow(Row):
    """A file of a batch; the newest row of a path wins; membership of a batch lives here."""

    batch: str = column("batch (partition)")
    path: str = column("path below the folder of the batch in uploads/")
    bytes: int | None = column("size of the file", default=None)
    mtime_ns: int | None = column("modification time, nanoseconds since 1970", default=None)
    sha256: str | None = column("SHA-256 of the bytes", default=None)
    clip_id: str | None = column("the clip that is the whole file; NULL where quarantined", default=None)
    status: str = column("ok, quarantined, or gone: the file was there and is not any more")
    error: str | None = column("why it is quarantined, or what is odd about an ok file", default=None)
    original_caption: str | None = column("caption from the sidecar file", default=None)
    sidecar_mtime_ns: int | None = column("modification time of the sidecar", default=None)
    columns: Json | None = column(
        "texts of the JSON sidecar by their keys; null where a value is no text", default=None
    )
    columns_mtime_ns: int | None = column("modification time of the JSON sidecar", default=None)
    recipe_id: str = column("clip recipe that probed it")


@table("samples", key=("batch", "sample_index"))
class SampleRow(Row):
    """A sample that a batch was imported with, so that it can be exported again as it came."""

    batch: str = column("batch (partition)")
    sample_index: int = column("position among the samples of its file, from 0", sql="INTEGER")
    text: str = column("its text, with special tokens")
    videos: list[str] = column("its videos, as paths below the batch, in the order of the video tokens")
    columns: Json = column("its other columns")
    origin: str = column("the format that it came in")


@table("clips", key=("clip_id", "recipe_id"))
class ClipRow(Row):
    """A clip (content): a file, or a part of one; facts from packets and decoded frames, not from headers."""

    clip_id: str = column("identity by content, and by its frames where it is a part of a file")
    recipe_id: str = column("clip recipe, or the split recipe that made it a clip of its own")
    video_sha256: str = column("SHA-256 of the file")
    bytes: int = column("size of the file")
    container: str = column("container format")
    codec: str = column("video codec")
    pix_fmt: str = column("pixel format")
    bit_depth: int = column("bits per component", sql="INTEGER")
    n_frames: int = column("frames that are really there", sql="INTEGER")
    declared_frames: int = column("frames the header claims; 0 where it claims nothing", sql="INTEGER")
    first_pts_s: float = column("presentation time of the first frame, seconds")
    duration_s: float = column("from the first frame to the end of the last, seconds")
    fps: float = column("average frame rate")
    is_vfr: bool = column("the frame rate varies")
    width: int = column("coded width in pixels", sql="INTEGER")
    height: int = column("coded height in pixels", sql="INTEGER")
    rotation: int = column("degrees clockwise that turn the coded picture upright", sql="INTEGER")
    sample_aspect_ratio: str = column("width:height of a pixel")
    display_width: int = column("width as shown: upright, square pixels", sql="INTEGER")
    display_height: int = column("height as shown: upright, square pixels", sql="INTEGER")
    color_range: str = column("limited, full or unspecified")
    color_space: str = column("matrix")
    color_primaries: str = column("primaries")
    color_transfer: str = column("transfer function")
    has_audio: bool = column("there is an audio stream")
    n_key_frames: int = column("key frames of the file", sql="INTEGER")
    flags: list[str] = column("what is unusual, e.g. vfr, truncated, header_frame_count_wrong")
    notes: list[str] = column("a sentence for each flag that needs one; of a part, see its file")
    source_clip_id: str | None = column("the whole file; NULL where the clip is one", default=None)
    source_start_frame: int | None = column("first frame, counted from the file's first", sql="INTEGER", default=None)
    source_end_frame: int | None = column("last frame, inclusive, as above", sql="INTEGER", default=None)
    source_start_s: float | None = column("time of the first frame from the file's first, s", default=None)
    source_end_s: float | None = column("end of the last frame from the file's first, s", default=None)
    cut_score: float | None = column("score of the scene cut before it, where there is one", default=None)


@table("clip_sets", key=("source_clip_id", "recipe_id", "run_id", "created_at"))
class ClipSetRow(Row):
    """The fan-out manifest of split files: a row per file (content) and split recipe."""

    source_clip_id: str = column("the clip that is the whole file")
    recipe_id: str = column("split recipe")
    n_clips: int = column("clips that it was split into; 1: there was nothing to split", sql="INTEGER")
    clip_ids: list[str] = column("the clips in order")
    status: str = column("ok, or error (tried again by the next run)")
    error: str | None = column("why", default=None)


@table("window_sets", key=("clip_id", "recipe_id", "run_id", "created_at"))
class WindowSetRow(Row):
    """The fan-out manifest: a row per clip and window recipe, also for 0 windows."""

    clip_id: str = column("clip")
    recipe_id: str = column("window recipe")
    n_windows: int = column("windows of the clip", sql="INTEGER")
    window_ids_sha256: str = column("hash of their ids, in order")
    status: str = column("ok, too_short (no window) or error (tried again by the next run)")
    error: str | None = column("why", default=None)


@table("windows", key=("window_id",))
class WindowRow(Row):
    """A run of frames of a clip, and the frames sampled from it."""

    window_id: str = column("identity: clip, frames, window recipe")
    clip_id: str = column("clip")
    recipe_id: str = column("window recipe")
    window_index: int = column("position in the clip, from 0; not part of the identity", sql="INTEGER")
    start_frame: int = column("first frame", sql="INTEGER")
    end_frame: int = column("last frame, inclusive", sql="INTEGER")
    start_s: float = column("time of the first frame, seconds from the clip's first frame")
    end_s: float = column("end of the last frame, seconds from the clip's first frame")
    frame_indices: list[int] = column("sampled frames, numbered in the clip")
    frame_times_s: list[float] = column("their times, seconds from the clip's first frame")
    frame_hashes: list[int] | None = column(
        "dHash of each sampled frame, 64 bits; bit_count(xor(a, b)) / 64 is how far two pictures are apart",
        sql="UBIGINT[]",
        default=None,
    )
    luma_low: list[int] | None = column(
        "lowest luma of each of 8 rows of 9 cells, 0 to 255", sql="UTINYINT[]", default=None
    )
    luma_high: list[int] | None = column("highest luma of each cell", sql="UTINYINT[]", default=None)
    color: str | None = column("mean colour of the sampled frames, #rrggbb", default=None)
    frames_digest: str | None = column("equal where the sampled frames have equal pixels", default=None)
    status: str = column("ok, or error: a sampled frame does not decode")
    error: str | None = column("which, and why", default=None)


@table("window_duplicates", key=("window_id", "recipe_id"))
class DuplicateRow(Row):
    """A decision that a window is collapsed: it needs no captions, those of an earlier window are shown for it."""

    window_id: str = column("the window that is collapsed")
    duplicate_of: str = column("the earlier window of the same clip that stands for it")
    recipe_id: str = column("dedupe recipe")
    mode: str = column("exact or near")
    distance: float = column("mean share of hash bits that differ, 0 to 1")
    evidence: Json = column("everything the decision rests on")


@table("caption_candidates", key=("candidate_id",))
class CandidateRow(Generated):
    """An answer of an engine, or an original caption, for a window."""

    candidate_id: str = column("identity: task, index, attempt")
    task_id: str = column("identity of the work: window and caption recipe")
    window_id: str = column("window")
    recipe_id: str = column("caption recipe")
    sample_index: int = column("which of the n candidates, from 0", sql="INTEGER")
    attempt: int = column("from 1; one more after an error", sql="INTEGER")
    stage: int = column("1, or 2 where the model refined its first caption", sql="INTEGER")
    parent_candidate_id: str | None = column("stage 2: the caption it refined", default=None)
    origin: str = column("model, or original (from a sidecar)")
    status: str = column("ok, truncated, empty, refused or error")


@table("judgements", key=("judgement_id",))
class JudgementRow(Generated):
    """A judge's answer on two candidates of a window, in the order in which it read them."""

    judgement_id: str = column("identity: judge recipe, both candidates in order, attempt")
    window_id: str = column("window")
    recipe_id: str = column("judge recipe")
    first_candidate_id: str = column("the caption it read first")
    second_candidate_id: str = column("the caption it read second")
    attempt: int = column("from 1; one more after an error", sql="INTEGER")
    choice: str | None = column("first or second; NULL where it named neither", default=None)
    status: str = column("ok or error")


@table("retention_decisions", key=("decision_id", "candidate_id"))
class DecisionRow(Row):
    """A verdict on each candidate considered; a decision is the rows with one decision_id."""

    decision_id: str = column("identity: window, policy recipe, candidate set, reference caption")
    candidate_id: str = column("the candidate judged")
    window_id: str = column("window")
    recipe_id: str = column("caption recipe of the candidates")
    policy_recipe_id: str = column("retention recipe")
    candidate_set_sha256: str = column("hash of the candidate ids considered together")
    reference_sha256: str | None = column("hash of the original caption that was compared", default=None)
    action: str = column("keep or drop; withdraw: a person took an override back")
    reason_code: str = column("why")
    rank: int | None = column("1 is the best; NULL where a gate dropped it", sql="INTEGER", default=None)
    score: float | None = column("score of the policy", default=None)
    evidence: Json = column("everything the verdict rests on")
    policy: str = column("policy by name")
    decided_by: str = column("policy, or user:NAME")


@table("enhanced_captions", key=("enhanced_id",))
class EnhancedRow(Generated):
    """A rewritten caption, or the reason why there is none."""

    enhanced_id: str = column("identity: task and attempt")
    task_id: str = column("identity of the work: candidate and enhance recipe")
    candidate_id: str = column("the caption it was made from")
    window_id: str = column("window")
    recipe_id: str = column("enhance recipe")
    attempt: int = column("from 1; one more after an error", sql="INTEGER")
    status: str = column("ok, truncated, empty, refused or error")


@table("drift_checks", key=("check_id",))
class DriftCheckRow(Row):
    """An enhanced caption compared with its source and the other candidates of its window."""

    check_id: str = column("identity: enhanced caption, drift recipe, candidates that bear it out")
    enhanced_id: str = column("the enhanced caption")
    candidate_id: str = column("the caption it was made from")
    window_id: str = column("window")
    recipe_id: str = column("drift recipe: the limits and the version of the check")
    support_sha256: str = column("hash of the ids of the candidates it was compared with")
    status: str = column("ok, drifted or unchanged")
    reason: str | None = column("what made it drift, with the words", default=None)
    evidence: Json = column("every finding, measure, and what could not be checked")


@table("previews", key=("window_id", "recipe_id", "run_id", "created_at"))
class PreviewRow(Row):
    """A small moving picture of a window and a still one; a folder holds those of a window's newest row there."""

    window_id: str = column("window")
    recipe_id: str = column("preview recipe")
    uri: str | None = column("path below the root: .webp, .avif or .mp4", default=None)
    sha256: str | None = column("SHA-256 of the file", default=None)
    bytes: int | None = column("size of the file", default=None)
    width: int | None = column("pixels", sql="INTEGER", default=None)
    height: int | None = column("pixels", sql="INTEGER", default=None)
    n_frames: int | None = column("pictures in the animation", sql="INTEGER", default=None)
    poster_uri: str | None = column("path of the still JPEG below the root", default=None)
    poster_sha256: str | None = column("SHA-256 of the still JPEG", default=None)
    poster_bytes: int | None = column("size of the still JPEG", default=None)
    warnings: list[str] = column("e.g. source height below target_height")
    status: str = column("ok or error")
    error: str | None = column("why there is no preview", default=None)


@table("tombstones", key=("object_kind", "object_id", "run_id", "created_at"))
class TombstoneRow(Row):
    """A takedown of a clip or a batch, or its withdrawal; the newest row of an object counts."""

    object_kind: str = column("clip or batch")
    object_id: str = column("clip_id, or name of the batch")
    reason_code: str = column("TAKEDOWN, or WITHDRAWN: it is shown again")
    detail: str | None = column("why, in the words of who asked", default=None)
    requested_by: str = column("user:NAME")
    files: str | None = column("NULL: kept; deleting; deleted: there is no way back", default=None)
    deleted_bytes: int | None = column("bytes of the files that were deleted", default=None)


@table("reproductions", key=("candidate_id", "run_id"))
class ReproductionRow(Row):
    """A stored candidate made again, so that reproducible is measured and not claimed."""

    candidate_id: str = column("the candidate")
    matched: bool = column("the texts are equal")
    text: str = column("the text made now")


@table("captions", key=("batch", "window_id"))
class CaptionRow(Record):
    """What is so now: a row for each window that a batch shows, with the caption that is served and what made it.

    Every commit keeps it in step with the history, see `captions.py`. Hidden windows have no row.
    """

    batch: str = column("batch (partition)")
    clip_path: str = column("path below the folder of the batch in uploads/")
    clip_name: str = column("the path, and for a part of a file where it begins")
    clip_id: str = column("identity of the clip's content")
    source_clip_id: str = column("the clip that is the whole file")
    window_id: str = column("identity of the window")
    window_index: int = column("position in the clip, from 0", sql="INTEGER")
    start_frame: int = column("first frame, counted from 0", sql="INTEGER")
    end_frame: int = column("last frame, inclusive", sql="INTEGER")
    start_s: float = column("time of the first frame, seconds from the clip's first frame")
    end_s: float = column("end of the last frame, seconds from the clip's first frame")
    clip_start_frame: int = column("the clip's first frame in its file, from 0; 0 for a whole file", sql="INTEGER")
    clip_start_s: float = column("its time, seconds from the file's first frame")
    window_recipe_id: str = column("recipe of the window")
    window_is_current: bool = column("made by the window and split recipes that are current for the batch")
    wanted_recipe_id: str | None = column("caption recipe that is current for the window", default=None)
    collapsed_into: str | None = column(
        "the window that this one looks like, by the current dedupe recipe", default=None
    )
    status: str = column("captioned, not_captioned, no_valid_candidate or window_error")
    error: str | None = column("why there is no caption", default=None)
    caption: str | None = column("the kept caption, the best one where several are kept", default=None)
    captions: list[str] | None = column("all kept captions, best first", default=None)
    candidate_id: str | None = column("the kept candidate in the ledger", default=None)
    candidate_ids: list[str] | None = column("all kept candidates, best first", default=None)
    caption_status: str | None = column("ok, or truncated at the token limit", default=None)
    is_current: bool | None = column("made by the caption recipe that is current for the window", default=None)
    duplicate_of: str | None = column("the window whose caption it is, where this one is collapsed", default=None)
    n_candidates: int = column("candidates that were considered")
    decision_id: str | None = column("the decision in force", default=None)
    reason_code: str | None = column("why the caption was kept", default=None)
    policy: str | None = column("the policy that decided", default=None)
    decided_by: str | None = column("policy, or user:NAME", default=None)
    caption_recipe_id: str | None = column("recipe of the caption", default=None)
    model_id: str | None = column("model of the caption", default=None)
    model_revision: str | None = column("its resolved revision", default=None)
    engine: str | None = column("engine that ran it", default=None)
    engine_version: str | None = column("version of the engine", default=None)
    prompt_sha256: str | None = column("SHA-256 of the prompt", default=None)
    seed: int | None = column("seed of the sampling", default=None)
    caption_stage: int | None = column("1, or 2 where the model refined its first caption", sql="INTEGER", default=None)
    enhanced_caption: str | None = column(
        "the caption rewritten by the text model, or the caption itself: see enhanced_status", default=None
    )
    enhanced_status: str | None = column(
        "ok, truncated (at the token limit), flagged (it drifted), fallback (it drifted: the caption stands in its "
        "place), unchecked (so too), or there is none: skipped, empty, refused, error; NULL where enhancement is off "
        "or has not run",
        default=None,
    )
    enhanced_reason: str | None = column(
        "what drifted, with the words; or why there is no enhanced caption: truncated, refused, empty, error (the "
        "caption), no_valid_candidate, not_captioned, window_error (the window), or the error of the text model",
        default=None,
    )
    drift: str | None = column("result of the drift check: ok, drifted or unchanged", default=None)
    enhance_recipe_id: str | None = column("recipe of the enhanced caption", default=None)
    original_caption: str | None = column("the caption that came with the video", default=None)
    preview_path: str | None = column("moving preview (WebP), below the root folder", default=None)
    poster_path: str | None = column("still picture of the preview (JPEG), below the root folder", default=None)
    preview_recipe_id: str | None = column("recipe of the preview", default=None)


HISTORY: Mapping[str, Table] = {name: each for name, each in TABLES.items() if name != "captions"}
"""The tables that record what happened; `captions` follows from them."""
