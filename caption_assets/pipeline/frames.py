"""The packed frames that a stage needs, from the cache or made again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from caption_assets.captioning.stream import FramesOf
from caption_assets.ids import ClipId, RecipeId, WindowId
from caption_assets.ledger.captions import CurrentRecipe, group
from caption_assets.ledger.store import Session
from caption_assets.root import RootFolder
from caption_assets.settings import Settings
from caption_assets.settings.groups import WindowSettings
from caption_assets.settings.recipes import recorded
from caption_assets.video.frame_store import (
    ClipFile,
    ClipPlace,
    FrameStore,
    FramesUnavailable,
    WindowFrames,
    load_frames,
)
from caption_assets.video.pack import PackRule
from caption_assets.video.packed_frames import PackedFrames
from caption_assets.video.windowing import FrameRange


class WindowOfRecipe(Protocol):
    """A window that a window recipe cut: a row of `captions`, say."""

    @property
    def window_id(self) -> str:
        """The window."""
        ...

    @property
    def clip_id(self) -> str:
        """The clip that it is cut from."""
        ...

    @property
    def window_recipe_id(self) -> str:
        """The recipe that cut it."""
        ...


@dataclass(frozen=True, slots=True)
class RegisteredFile:
    """A file that holds a clip, and which of its frames are the clip; None: all of them."""

    clip_id: str
    source_clip_id: str
    source_start_frame: int | None
    source_end_frame: int | None
    batch: str
    path: str
    bytes: int
    mtime_ns: int

    @property
    def frames(self) -> FrameRange | None:
        """The frames of the file that are the clip."""
        return frame_range(self.source_start_frame, self.source_end_frame)


def frame_range(start: int | None, end: int | None) -> FrameRange | None:
    """Return the frames of a part of a file, ends inclusive; None for a whole file."""
    return None if start is None or end is None else FrameRange(start, end)


FILES_OF_CLIPS = """(
    SELECT DISTINCT c.clip_id, coalesce(c.source_clip_id, c.clip_id) AS source_clip_id, c.source_start_frame,
           c.source_end_frame, u.batch, u.path, u.bytes, u.mtime_ns
    FROM clips c
    JOIN live_uploads u ON u.clip_id = coalesce(c.source_clip_id, c.clip_id)
    WHERE u.status = 'ok' AND c.clip_id IN (SELECT clip_id FROM clip_id)
) files"""


def read_places(session: Session, batch: str, clips: Sequence[str]) -> dict[ClipId, ClipPlace]:
    """Return where clips are to be found, the files in `batch` first."""
    session.put_names("clip_id", clips)
    by_clip = group(session.select(RegisteredFile, FILES_OF_CLIPS), lambda file: file.clip_id)
    return {
        ClipId(clip): ClipPlace(ClipId(files[0].source_clip_id), files[0].frames, _nearest_first(files, batch))
        for clip, files in by_clip.items()
    }


def _nearest_first(files: Sequence[RegisteredFile], batch: str) -> list[ClipFile]:
    found = [ClipFile(file.batch, file.path, file.bytes, file.mtime_ns) for file in files]
    return sorted(found, key=lambda file: (file.batch != batch, file.batch, file.path))


def read_frame_sources(session: Session, batch: str, windows: Sequence[WindowOfRecipe]) -> list[WindowFrames]:
    """Return what it takes to make the packed frames of `windows`, for a run of `batch`."""
    if not windows:
        return []
    places = read_places(session, batch, [window.clip_id for window in windows])
    session.put_names("recipe_id", [window.window_recipe_id for window in windows])
    recipes = session.select(CurrentRecipe, "recipes WHERE recipe_id IN (SELECT recipe_id FROM recipe_id)")
    rules = {recipe.recipe_id: recorded(WindowSettings, recipe.values) for recipe in recipes}
    return [
        WindowFrames(
            window_id=WindowId(window.window_id),
            clip_id=(clip := ClipId(window.clip_id)),
            place=places.get(clip, ClipPlace(clip)),
            window_recipe=RecipeId(window.window_recipe_id),
            window_rule=rules[window.window_recipe_id],
        )
        for window in windows
    ]


def ensure_frames(
    root: RootFolder, batch: str, wanted: Sequence[WindowFrames], settings: Settings, pack: PackRule | None = None
) -> tuple[dict[WindowId, Path], dict[WindowId, str]]:
    """Return where the packs of windows lie, and why some cannot be had; packs that are missing are made.

    pack: how the frames must look, by default as the settings say.
    """
    if not wanted:
        return {}, {}
    rule = pack or PackRule.of(settings.caption)
    return FrameStore(root, batch, rule, settings.clip, settings.decode).ensure(wanted)


def frames_when_asked(root: RootFolder, batch: str, wanted: Sequence[WindowFrames], settings: Settings) -> FramesOf:
    """Return a function that reads a window's frames. Packs that are missing are made when the first one is wanted.

    So a run over many batches makes those of one while the engine works on the batch before.
    """
    read: list[FramesOf] = []

    def frames_of(window: WindowId) -> PackedFrames | str:
        if not read:
            read.append(frames_reader(*ensure_frames(root, batch, wanted, settings)))
        return read[0](window)

    return frames_of


def frames_reader(packs: Mapping[WindowId, Path], lost: Mapping[WindowId, str]) -> FramesOf:
    """Return a function that reads a window's frames from disk when they are wanted, one window at a time."""

    def frames_of(window: WindowId) -> PackedFrames | str:
        if window in lost:
            return lost[window]
        try:
            return load_frames(packs[window])
        except FramesUnavailable as fault:
            return str(fault)

    return frames_of
