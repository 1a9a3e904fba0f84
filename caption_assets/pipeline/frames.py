"""The packed frames that a stage needs, from the cache or made again."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from caption_assets.captioning.stream import FramesOf
from caption_assets.engines.protocol import PackedFrames
from caption_assets.ids import ClipId, RecipeId, WindowId
from caption_assets.ledger.database import Ledger
from caption_assets.root import RootFolder
from caption_assets.settings import Settings
from caption_assets.settings.recipes import recorded_window
from caption_assets.video.frame_store import (
    ClipPlace,
    FrameStore,
    FramesUnavailable,
    WindowFrames,
    clip_files,
    load_frames,
)
from caption_assets.video.pack import PackRule
from caption_assets.video.windowing import FrameRange


def ensure_frames(
    root: RootFolder,
    ledger: Ledger,
    batch: str,
    rows: Sequence[Mapping[str, object]],
    settings: Settings,
    pack: PackRule | None = None,
) -> tuple[dict[WindowId, Path], dict[WindowId, str]]:
    """Return where the packs of the windows in `rows` lie, and why some cannot be had.

    rows: window_id, clip_id, window_recipe_id and window_params of each window. pack: how the frames must look, by
    default as the settings say.
    """
    if not rows:
        return {}, {}
    places = places_of_clips(ledger, batch)
    wanted = [_wanted(row, places) for row in rows]
    rule = pack or PackRule.of(settings.caption)
    return FrameStore(root, batch, rule, settings.clip, settings.decode).ensure(wanted)


def frames_when_asked(
    root: RootFolder, ledger: Ledger, batch: str, rows: Sequence[Mapping[str, object]], settings: Settings
) -> FramesOf:
    """Return a function that reads a window's frames. Packs that are missing are made when the first one is wanted.

    So a run over many batches makes those of one while the engine works on the batch before. Arguments as for
    `ensure_frames`.
    """
    places = places_of_clips(ledger, batch) if rows else {}
    wanted = [_wanted(row, places) for row in rows]
    read: list[FramesOf] = []

    def frames_of(window: WindowId) -> PackedFrames | str:
        if not read:
            store = FrameStore(root, batch, PackRule.of(settings.caption), settings.clip, settings.decode)
            read.append(frames_reader(*store.ensure(wanted)))
        return read[0](window)

    return frames_of


def places_of_clips(ledger: Ledger, batch: str) -> dict[ClipId, ClipPlace]:
    """Return where every clip of a batch is to be found, its files in this batch first."""
    by_clip: dict[ClipId, list[Mapping[str, object]]] = {}
    for file in ledger.named("batch_clip_files", batch=batch):
        by_clip.setdefault(ClipId(str(file["clip_id"])), []).append(file)
    return {
        clip: ClipPlace(ClipId(str(found[0]["source_clip_id"])), frames_of_clip(found[0]), clip_files(found, batch))
        for clip, found in by_clip.items()
    }


def frames_reader(there: Mapping[WindowId, Path], lost: Mapping[WindowId, str]) -> FramesOf:
    """Return a function that reads a window's frames from disk when they are wanted, one window at a time."""

    def frames_of(window: WindowId) -> PackedFrames | str:
        if window in lost:
            return lost[window]
        try:
            return load_frames(there[window])
        except FramesUnavailable as fault:
            return str(fault)

    return frames_of


def _wanted(row: Mapping[str, object], places: Mapping[ClipId, ClipPlace]) -> WindowFrames:
    clip = ClipId(str(row["clip_id"]))
    return WindowFrames(
        window_id=WindowId(str(row["window_id"])),
        clip_id=clip,
        place=places.get(clip, ClipPlace(clip)),
        window_recipe=RecipeId(str(row["window_recipe_id"])),
        window_rule=recorded_window(json.loads(str(row["window_params"]))),
    )


def frames_of_clip(row: Mapping[str, object]) -> FrameRange | None:
    """Return which frames of its file a clip has, from `source_start_frame` and `source_end_frame` of its row."""
    if row["source_start_frame"] is None:
        return None
    return FrameRange(int(str(row["source_start_frame"])), int(str(row["source_end_frame"])))
