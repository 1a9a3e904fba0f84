"""NeMo Curator's layout: a file of metadata per clip, a moving preview per window, and the clips.

    metas/v0/<clip>.json                       facts of a clip, and the captions of its windows
    previews/<clip>/<first>_<last>.webp        frames inclusive
    clips/<clip>.mp4                           or the suffix that the upload has
    processed_videos/<path>.json               facts of a file
    processed_clip_chunks/<path>_0.json        its clips, and the captions of all their windows

A clip is named by the UUID that has the 128 bits of its id. A window has the captions that its batch shows, under
`<model>_caption` and `<model>_enhanced_caption`; of several kept captions the best, as the layout has room for one.
"""

import json
import re
import shutil
import uuid
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any

from caption_assets import ids
from caption_assets.exchange.delivery import DeliveredCaption, DeliveredPreview, Delivery, ImportFault, parse_document
from caption_assets.exchange.folder import place_file, write_folder
from caption_assets.exchange.selection import Exported, ExportOptions, is_chosen
from caption_assets.exchange.table import TableRow, caption_rows
from caption_assets.ids import ClipId
from caption_assets.ledger.database import Ledger
from caption_assets.root import RootFolder
from caption_assets.uploads.batches import VIDEO_SUFFIXES
from caption_assets.uploads.inspect import file_sha256

FORMAT = "nemo-curator"
METAS, PREVIEWS, CLIPS = "metas/v0", "previews", "clips"
VIDEOS, CHUNKS = "processed_videos", "processed_clip_chunks"
PREVIEW_SUFFIX = ".webp"

QWEN_CAPTION, QWEN_ENHANCED = "qwen", "qwen_lm"
"""What NeMo Curator calls every Qwen model, of vision and of text."""


def uuid_of_clip(clip: str) -> uuid.UUID:
    """Return the UUID of a clip: the bits of its id."""
    return uuid.UUID(hex=clip[1:])


def clip_of_uuid(name: str) -> ClipId:
    """Return the clip id that a UUID of `uuid_of_clip` stands for.

    Raises ValueError where it is no UUID.
    """
    return ClipId("c" + uuid.UUID(name).hex)


def model_key(model: str, *, enhanced: bool = False) -> str:
    """Return the name of a model in keys: NeMo Curator's own for every Qwen, else its id without odd signs."""
    if "qwen" in model.lower():
        return QWEN_ENHANCED if enhanced else QWEN_CAPTION
    return re.sub(r"[^0-9A-Za-z.-]+", "_", model)


def clip_meta(rows: Sequence[TableRow], options: ExportOptions, *, has_file: bool) -> dict[str, Any]:
    """Return the metadata of a clip. rows: its windows in the caption table."""
    clip = rows[0]
    errors = [f"window_{_span(row.start_frame, row.end_frame)}" for row in rows if row.status == "window_error"]
    return {
        "span_uuid": str(uuid_of_clip(clip.clip_id)),
        "source_video": clip.clip_path,
        "duration_span": [clip.clip_start_s, clip.clip_start_s + clip.duration_s],
        "width_source": clip.display_width,
        "height_source": clip.display_height,
        "framerate_source": clip.fps,
        "clip_location": clip_location(clip) if clip.is_whole_file else None,
        "width": clip.display_width,
        "height": clip.display_height,
        "framerate": clip.fps,
        "num_frames": clip.n_frames,
        "video_codec": clip.codec,
        "num_bytes": clip.bytes if clip.is_whole_file else None,
        **({"errors": errors} if errors else {}),
        "windows": [_window(row, options) for row in rows],
        "valid": has_file,
    }


def clip_location(row: TableRow) -> str:
    """Return where the clip of a row lies, for a clip that is a whole file."""
    return f"{CLIPS}/{uuid_of_clip(row.clip_id)}{Path(row.clip_path).suffix.lower()}"


def _window(row: TableRow, options: ExportOptions) -> dict[str, Any]:
    window: dict[str, Any] = {"start_frame": row.start_frame, "end_frame": row.end_frame}
    if is_chosen(row, options):
        window[f"{model_key(row.model_id or '')}_caption"] = row.caption
        if row.enhanced_caption is not None:
            model = model_key(row.enhance_model_id or "", enhanced=True)
            window[f"{model}_enhanced_caption"] = row.enhanced_caption
    return window


def _span(first: int, last: int) -> str:
    """Return the name of a window in files and keys: its first and last frame."""
    return f"{first}_{last}"


def export_batch(root: RootFolder, ledger: Ledger, batch: str, out: Path, options: ExportOptions) -> Exported:
    """Write the layout below `<out>/<batch>/`."""
    clips = [list(windows) for _, windows in groupby(caption_rows(ledger, batch), key=lambda row: row.clip_id)]
    left: list[str] = []

    def write(folder: Path) -> None:
        metas = [_write_clip(root, windows, folder, options, left) for windows in clips]
        for path, pairs in groupby(zip(metas, clips, strict=True), key=lambda pair: pair[1][0].clip_path):
            of_file = list(pairs)
            _write_video(folder, path, [meta for meta, _ in of_file], of_file[0][1][0])

    write_folder(out / batch, FORMAT, write)
    return Exported(str(out / batch / METAS), len(clips), tuple(left))


def _write_clip(
    root: RootFolder, rows: Sequence[TableRow], folder: Path, options: ExportOptions, left: list[str]
) -> dict[str, Any]:
    """Write what belongs to one clip, and return its metadata."""
    clip = rows[0]
    name, source = str(uuid_of_clip(clip.clip_id)), root.uploads / clip.batch / clip.clip_path
    has_file = clip.is_whole_file
    if not has_file:
        left.append(f"{clip.batch}/{clip.clip_path}: {clip.clip_id} is a part of it, without a file of its own")
    elif options.videos and not place_file(source, folder / clip_location(clip)):
        has_file = False
        left.append(f"{clip.batch}/{clip.clip_path}: the video is not in uploads/ any more")
    for row in rows:
        if row.preview_path is not None:
            span = _span(row.start_frame, row.end_frame)
            _write_preview(root.path / row.preview_path, folder / PREVIEWS / name / span, left)
    meta = clip_meta(rows, options, has_file=has_file)
    _write_json(folder / METAS / f"{name}.json", meta)
    return meta


def _write_preview(source: Path, target: Path, left: list[str]) -> None:
    if source.suffix != PREVIEW_SUFFIX:
        left.append(f"{source.name}: a preview must be WebP in this layout; run the batch again to make it")
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        shutil.copyfile(source, target.with_name(target.name + PREVIEW_SUFFIX))
    except FileNotFoundError:
        left.append(f"{source.name}: the preview was deleted; the next run makes it again")


def _write_video(folder: Path, path: str, metas: Sequence[Mapping[str, Any]], row: TableRow) -> None:
    """Write the facts of one file, and the captions of its clips. row: a window of the first one."""
    duration = max(meta["duration_span"][1] for meta in metas)
    captions = {meta["span_uuid"]: _captions_of(meta, "_caption") for meta in metas}
    enhanced = {meta["span_uuid"]: _captions_of(meta, "_enhanced_caption") for meta in metas}
    previews = [any((folder / PREVIEWS / meta["span_uuid"]).glob("*")) for meta in metas]
    _write_json(
        folder / VIDEOS / f"{path}.json",
        {
            "video": path,
            "height": row.display_height,
            "width": row.display_width,
            "framerate": row.fps,
            "num_frames": sum(meta["num_frames"] for meta in metas),
            "duration": duration,
            "video_codec": row.codec,
            "pixel_format": row.pix_fmt,
            "audio_format": None,
            "num_total_clips": len(metas),
            "num_clip_chunks": 1,
        },
    )
    lengths = [meta["duration_span"][1] - meta["duration_span"][0] for meta in metas]
    _write_json(
        folder / CHUNKS / f"{path}_0.json",
        {
            "video": path,
            "clip_chunk_index": 0,
            "num_clips_filtered_by_motion": 0,
            "num_clips_filtered_by_aesthetic": 0,
            "num_clips_passed": len(metas),
            "num_clips_transcoded": sum(meta["valid"] for meta in metas),
            "num_clips_with_embeddings": 0,
            "num_clips_with_caption": sum(bool(found) for found in captions.values()),
            "num_clips_with_webp": sum(previews),
            "total_clip_duration": sum(lengths),
            "max_clip_duration": max(lengths),
            "clips": [meta["span_uuid"] for meta in metas],
            "filtered_clips": [],
            "all_windows": captions,
            "all_windows_enhanced_caption": enhanced,
        },
    )


def _captions_of(meta: Mapping[str, Any], suffix: str) -> dict[str, str]:
    """Return the first caption of each window whose key ends in `suffix`."""
    found = {}
    for window in meta["windows"]:
        for key, text in window.items():
            if key.endswith(suffix) and (suffix != "_caption" or not key.endswith("_enhanced_caption")):
                found[_span(window["start_frame"], window["end_frame"])] = text
                break
    return found


def _write_json(path: Path, document: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, ensure_ascii=False, indent=4), encoding="utf-8")


CAPTION, ENHANCED = "_caption", "_enhanced_caption"


def read_delivery(path: Path) -> Delivery:
    """Read the output folder of a pipeline.

    Raises:
        ImportFault: there is no metadata in it.
    """
    metas = sorted((path / METAS).glob("*.json"))
    if not metas:
        raise ImportFault(f"{path}: there is no {METAS}/*.json in it; name the output folder of NeMo Curator")
    delivery = Delivery(FORMAT)
    for meta in metas:
        try:
            _take(parse_document(meta.read_bytes()), path, delivery)
        except (ValueError, TypeError, AttributeError, OverflowError, RecursionError, OSError) as fault:
            delivery.problems.append(f"{METAS}/{meta.name}: {fault}")
        except KeyError as fault:
            delivery.problems.append(f"{METAS}/{meta.name}: there is no {fault} in it")
    return delivery


def _take(meta: Mapping[str, Any], folder: Path, delivery: Delivery) -> None:
    """Take one clip into `delivery`, or raise and leave it as it was."""
    name = str(meta["span_uuid"])
    file = _clip_file(meta, folder)
    path = _path_of(meta, file)
    captions: list[DeliveredCaption] = []
    previews: list[DeliveredPreview] = []
    for window in meta["windows"]:
        frames = (int(window["start_frame"]), int(window["end_frame"]))
        captions += _captions(path, frames, window)
        preview = folder / PREVIEWS / name / f"{frames[0]}_{frames[1]}{PREVIEW_SUFFIX}"
        if preview.is_file():
            previews.append(DeliveredPreview(path, frames, preview))
    if delivery.videos.setdefault(path, file) != file:
        raise ValueError(f"{path}: two clips want this name")
    delivery.captions += captions
    delivery.previews += previews


def _clip_file(meta: Mapping[str, Any], folder: Path) -> Path:
    """Return the clip's file: where the metadata says, below the folder, else under its name in `clips/`."""
    location = meta.get("clip_location")
    if location is None:
        raise ValueError("the clip has no file of its own, so its windows cannot be found again")
    found = sorted((folder / CLIPS).glob(f"{meta['span_uuid']}.*"))
    named = folder / CLIPS / PurePosixPath(str(location)).name
    file = named if named.is_file() else next(iter(found), named)
    if not file.is_file():
        raise ValueError(f"{CLIPS}/{named.name}: no such clip")
    if file.suffix.lower() not in VIDEO_SUFFIXES:
        raise ValueError(f"{file.name} is no video file name; accepted: {' '.join(VIDEO_SUFFIXES)}")
    return file


def _path_of(meta: Mapping[str, Any], file: Path) -> str:
    """Return the path that a clip gets below the batch: that of its source where it is the whole of it, by content."""
    source = PurePosixPath(str(meta["source_video"]))
    is_plain = not source.is_absolute() and not any(part.startswith(".") for part in source.parts)
    try:
        is_whole = clip_of_uuid(str(meta["span_uuid"])) == ids.clip_id(file_sha256(file))
    except ValueError:
        is_whole = False
    if is_plain and is_whole and source.suffix.lower() == file.suffix.lower():
        return str(source)
    return file.name


def _captions(path: str, frames: tuple[int, int], window: Mapping[str, Any]) -> list[DeliveredCaption]:
    """Return the captions of a window, by the name of the model; the first has the enhanced caption."""
    enhanced = {key.removesuffix(ENHANCED): text for key, text in window.items() if key.endswith(ENHANCED)}
    plain = {
        key.removesuffix(CAPTION): text
        for key, text in window.items()
        if key.endswith(CAPTION) and not key.endswith(ENHANCED) and text
    }
    first = next(iter(sorted(enhanced)), None)
    return [
        DeliveredCaption(
            path,
            str(plain[model]),
            model,
            frames,
            rank,
            str(enhanced[first]) if first is not None and rank == 0 else None,
            first if rank == 0 else None,
        )
        for rank, model in enumerate(sorted(plain))
    ]
