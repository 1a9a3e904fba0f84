"""Reading NeMo Curator's layout: `metas/v0/*.json` with the captions of each clip's windows, its clips and previews."""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from caption_assets import ids
from caption_assets.export.nemo_curator import CLIPS, FORMAT, METAS, PREVIEW_SUFFIX, PREVIEWS, clip_of_uuid
from caption_assets.imports.delivery import DeliveredCaption, DeliveredPreview, Delivery, ImportFault, parse_document
from caption_assets.uploads.batches import VIDEO_SUFFIXES
from caption_assets.uploads.inspect import file_sha256

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
