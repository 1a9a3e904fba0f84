"""The packed frames of a window: its sampled frames decoded once, as JPEGs in one Parquet file.

A pack is a cache of (window, frame budget, quality). It can be deleted at any time and is made again from the clip.
"""

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

import simplejpeg
from av.video.frame import VideoFrame

from caption_assets.ids import digest
from caption_assets.settings.groups import CaptionSettings, ClipSettings, WindowSettings
from caption_assets.video.budget import fit_resolution
from caption_assets.video.decode import TimesOutOfOrder, decode_frames
from caption_assets.video.demux import UnreadableVideo
from caption_assets.video.fingerprint import FramePrint, FramePrinter, WindowPrint
from caption_assets.video.packed_frames import PackedFrames
from caption_assets.video.pipelined import Beside
from caption_assets.video.probe import ClipFacts
from caption_assets.video.sampling import sample_frames
from caption_assets.video.splitting import frame_end_s, part_times_s
from caption_assets.video.to_rgb import UprightScaler
from caption_assets.video.windowing import FrameRange, plan_windows

PACK_CODE_VERSION = 2
"""Raised by hand when the same window and rule would give other pixels."""

FRAMES_IN_FLIGHT = 3
"""Decoded frames that may wait to be packed while the next ones are decoded."""

SHAPE_TOLERANCE = 0.02
"""Share by which width over height of a frame may differ from the clip's: sides rounded to even numbers differ so."""

DEFAULTS = CaptionSettings()


class MissingPack(FileNotFoundError):
    """The window has no packed frames here; pack it again."""


class CorruptPack(ValueError):
    """The pack is there and cannot be read; delete it and pack the window again."""


@dataclass(frozen=True)
class PackRule:
    """How frames look to a model: sides are multiples of `factor` pixels, JPEG `quality` is 1 to 100."""

    factor: int = DEFAULTS.frame_factor
    quality: int = DEFAULTS.frame_quality

    @classmethod
    def of(cls, caption: CaptionSettings) -> Self:
        """Return how frames look to the model of `caption`."""
        return cls(caption.frame_factor, caption.frame_quality)

    @property
    def pack_id(self) -> str:
        """Identity of the rule, the same on every machine."""
        return "p" + digest("pack", self.factor, self.quality, PACK_CODE_VERSION)


@dataclass(frozen=True)
class PlannedWindow:
    """A window and its sampled frames.

    start_frame, end_frame: first and last frame, both inclusive, counted from the clip's first frame.
    start_s, end_s: seconds from the clip's first frame to the first frame's start and to the last frame's end.
    frame_indices: the sampled frames, counted from the clip's first frame, ascending.
    frame_times_s: seconds of each from the clip's first frame.
    clip_start_frame: the clip's first frame, counted from the file's; above 0 where the clip is a part of the file.
    """

    start_frame: int
    end_frame: int
    start_s: float
    end_s: float
    frame_indices: tuple[int, ...]
    frame_times_s: tuple[float, ...]
    clip_start_frame: int = 0


@dataclass(frozen=True)
class PackOutcome:
    """What became of one window.

    error: set when status is "error"; height, width and bytes are 0 then, and seen is None.
    seen: what its sampled frames look like.
    """

    window: PlannedWindow
    status: Literal["ok", "error"]
    error: str | None
    height: int
    width: int
    bytes: int
    seen: WindowPrint | None = None


def plan_clip(facts: ClipFacts, rule: WindowSettings, frames: FrameRange | None = None) -> list[PlannedWindow]:
    """Cut a clip into windows and choose the frames of each. A clip under 4 frames has none.

    facts: of the file. frames: those of the clip, counted from the file's first; None: the clip is the whole file.
    """
    frames = frames or FrameRange(0, facts.n_frames - 1)
    times_s = part_times_s(facts, frames.start, frames.end)
    length_s = frame_end_s(facts, frames.end) - facts.times_s[frames.start]
    planned = []
    for window in plan_windows(frames.n_frames, rule.window_size, rule.remainder_threshold):
        indices = sample_frames(times_s, window.start, window.end, rule.sampling_fps)
        is_last = window.end + 1 == frames.n_frames
        planned.append(
            PlannedWindow(
                start_frame=window.start,
                end_frame=window.end,
                start_s=times_s[window.start],
                end_s=length_s if is_last else times_s[window.end + 1],
                frame_indices=tuple(indices),
                frame_times_s=tuple(times_s[index] for index in indices),
                clip_start_frame=frames.start,
            )
        )
    return planned


def pack_path(folder: Path, window_id: str, pack_id: str) -> Path:
    """Return where the packed frames of a window lie."""
    return folder / f"{window_id}.{pack_id}.parquet"


def pack_windows(
    path: Path,
    facts: ClipFacts,
    windows: Sequence[tuple[str, PlannedWindow]],
    rule: PackRule,
    folder: Path,
    limits: ClipSettings = ClipSettings(),  # noqa: B008 - frozen
) -> list[PackOutcome]:
    """Decode the clip once and write one pack for each (window_id, window); return their outcomes in that order.

    Every pack is written to a temporary name as soon as its last frame is there, so memory holds the frames of the
    windows that overlap in time and no more; all are renamed when the pass is over. A window that lacks a frame is an
    error and harms no other.

    Raises:
        OSError: `folder` cannot be written.
    """
    try:
        return _pack_once(path, facts, windows, rule, folder, limits)
    except TimesOutOfOrder:
        return _pack_once(path, replace(facts, by_pts=False), windows, rule, folder, limits)


def _pack_schema() -> dict[str, Any]:
    """Return the columns of a pack, which is a Parquet file of one row. Uncompressed: JPEG does not get smaller."""
    import polars as pl

    return {
        "window_id": pl.String(), "pack_id": pl.String(), "width": pl.Int32(), "height": pl.Int32(),
        "frame_indices": pl.List(pl.Int32()), "frame_times_s": pl.List(pl.Float64()), "jpegs": pl.List(pl.Binary()),
    }  # fmt: skip


def read_pack(path: Path) -> PackedFrames:
    """Read the packed frames of a window.

    Raises:
        MissingPack: there is no such file.
        CorruptPack: the file is not a whole pack.
    """
    import polars as pl

    try:
        table = pl.read_parquet(path, glob=False)
        if dict(table.schema) != _pack_schema() or table.height != 1:
            raise CorruptPack(f"{path.name} is not a pack of one window; delete it and pack the window again")
        row = table.row(0, named=True)
        return PackedFrames(
            jpegs=tuple(row["jpegs"]),
            times_s=tuple(row["frame_times_s"]),
            width=row["width"],
            height=row["height"],
        )
    except FileNotFoundError as error:
        raise MissingPack(f"no packed frames at {path.name}; pack the window again") from error
    except (pl.exceptions.PolarsError, OSError, TypeError) as error:
        raise CorruptPack(f"{path.name} cannot be read ({error}); delete it and pack the window again") from error


def _pack_once(
    path: Path,
    facts: ClipFacts,
    windows: Sequence[tuple[str, PlannedWindow]],
    rule: PackRule,
    folder: Path,
    limits: ClipSettings,
) -> list[PackOutcome]:
    folder.mkdir(parents=True, exist_ok=True)
    pending = [_PendingPack(window_id, window, facts, rule, folder) for window_id, window in windows]
    readers: dict[int, list[_PendingPack]] = {}
    for pack in pending:
        for index in pack.window.frame_indices if pack.error is None else ():
            readers.setdefault(pack.window.clip_start_frame + index, []).append(pack)

    scaler, printer = UprightScaler(facts), FramePrinter(facts)

    def take(index: int, frame: VideoFrame) -> None:
        if (other := _other_shape(frame, facts)) is not None:
            for pack in readers[index]:
                pack.error = pack.error or f"{other} at {facts.times_s[index]:.2f} s"
            return
        seen = printer.print_of(frame)
        for pack in readers[index]:
            pack.add(
                index - pack.window.clip_start_frame,
                seen,
                simplejpeg.encode_jpeg(
                    scaler.rgb(frame, pack.height, pack.width),
                    quality=rule.quality,
                    colorsubsampling="420",  # as in most video; 4:4:4 would only store its upsampling
                ),
            )

    failure: str | None = None
    try:
        try:
            with Beside(take, most_waiting=FRAMES_IN_FLIGHT) as packer:
                for index, frame in decode_frames(path, facts, readers.keys(), limits):
                    packer.put(index, frame)
        except TimesOutOfOrder:
            raise
        except UnreadableVideo as error:
            failure = str(error)
        return [pack.finish(failure if not facts.by_pts else None, failure) for pack in pending]
    finally:
        for pack in pending:
            pack.discard()


def _other_shape(frame: VideoFrame, facts: ClipFacts) -> str | None:
    """Say so when a frame would come out distorted: a stream may change its picture's shape on the way.

    A change of size alone, as streaming over a varying line makes it, is scaled like everything else.
    """
    wide, high = frame.width * facts.height, frame.height * facts.width
    if abs(wide - high) <= SHAPE_TOLERANCE * max(wide, high):
        return None
    return f"the picture changes its shape from {facts.width}x{facts.height} to {frame.width}x{frame.height}"


class _PendingPack:
    """The pack of one window while its clip is decoded."""

    def __init__(self, window_id: str, window: PlannedWindow, facts: ClipFacts, rule: PackRule, folder: Path) -> None:
        self.window = window
        self.error: str | None = None
        self.height = self.width = 0
        self._window_id = window_id
        self._pack_id = rule.pack_id
        self._final = pack_path(folder, window_id, rule.pack_id)
        self._staged = self._final.with_name(f".{self._final.name}.{os.getpid()}.tmp")
        self._jpegs: dict[int, bytes] = {}
        self._frames_seen: dict[int, FramePrint] = {}
        self._seen: WindowPrint | None = None
        self._is_staged = False
        try:
            self.height, self.width = fit_resolution(
                facts.display_height, facts.display_width, len(window.frame_indices), factor=rule.factor
            )
        except ValueError as error:
            self.error = str(error)

    def add(self, index: int, seen: FramePrint, jpeg: bytes) -> None:
        """Take frame `index` of the clip; the last one writes the file under its temporary name."""
        self._frames_seen[index] = seen
        self._jpegs[index] = jpeg
        if len(self._jpegs) < len(self.window.frame_indices):
            return
        import polars as pl

        row = {
            "window_id": [self._window_id],
            "pack_id": [self._pack_id],
            "width": [self.width],
            "height": [self.height],
            "frame_indices": [list(self.window.frame_indices)],
            "frame_times_s": [list(self.window.frame_times_s)],
            "jpegs": [[self._jpegs[index] for index in self.window.frame_indices]],
        }
        # Not synced to the disk: a pack lost with the power is found corrupt and made again.
        pack = pl.DataFrame(row, schema=_pack_schema())
        pack.write_parquet(self._staged, compression="uncompressed", statistics=False)
        self._is_staged = True
        self._seen = WindowPrint.of([self._frames_seen[index] for index in self.window.frame_indices])
        self._jpegs.clear()
        self._frames_seen.clear()

    def finish(self, doubt: str | None, failure: str | None) -> PackOutcome:
        """Rename the file to its final name, or say why there is none.

        doubt: why even whole packs of this clip are not to be trusted. failure: why decoding ended early.
        """
        error = self.error or doubt
        if error is None and not self._is_staged:
            missing = [
                time_s
                for index, time_s in zip(self.window.frame_indices, self.window.frame_times_s, strict=True)
                if index not in self._jpegs
            ]
            error = (
                f"{len(missing)} of {len(self.window.frame_indices)} sampled frames do not decode, the first at "
                f"{missing[0]:.2f} s" + (f": {failure}" if failure else "")
            )
        if error is not None:
            return PackOutcome(self.window, "error", error, 0, 0, 0)
        size = self._staged.stat().st_size
        self._staged.replace(self._final)
        self._is_staged = False
        return PackOutcome(self.window, "ok", None, self.height, self.width, size, self._seen)

    def discard(self) -> None:
        """Remove what was written under the temporary name, if it is still there."""
        with contextlib.suppress(FileNotFoundError):
            self._staged.unlink()
