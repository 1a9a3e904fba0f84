"""Which windows of a clip look like the one before them: a pure function of the prints in the ledger, no decoding."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caption_assets.ids import WindowId
from caption_assets.settings.groups import DedupeSettings
from caption_assets.video.fingerprint import WindowPrint, bit_share

EXACT_TIME_S = 0.00105
"""Seconds by which frame times of equal windows may differ: containers round them to milliseconds."""

NEAR_LENGTH = 0.1
"""Share of the longer window's length by which near windows may differ in length: captions speak of it."""

NEAR_LEVELS = 3
"""Levels of 255 by which light and colour of near windows may differ. Measured on windows of a still camera, with noise
of up to 30 levels: 1.5; with somebody of 0.7 % of the picture walking through, or another slide: 6.6 and more, where
the hashes differ as little as by noise. Light that flickers alike in both windows is not seen."""


@dataclass(frozen=True)
class SeenWindow:
    """A window as it is compared; times in seconds from the clip's first frame.

    times_s: of its sampled frames.
    seen: None where nothing is known of its pixels; it equals no other window.
    """

    window_id: WindowId
    start_s: float
    end_s: float
    times_s: tuple[float, ...]
    seen: WindowPrint | None


@dataclass(frozen=True)
class Duplicate:
    """A window that is collapsed. distance: mean share of differing hash bits. evidence: what the decision rests on."""

    window_id: WindowId
    duplicate_of: WindowId
    distance: float
    evidence: dict[str, object]


def find_duplicates(windows: Sequence[SeenWindow], rule: DedupeSettings) -> list[Duplicate]:
    """Return the windows of one clip, given in order, that are collapsed into an earlier one.

    Each is compared with the last window that is not collapsed itself, so that slow change never adds up unseen.
    """
    found: list[Duplicate] = []
    if rule.mode == "off":
        return found
    representative: SeenWindow | None = None
    for window in windows:
        duplicate = _compare(representative, window, rule) if representative is not None else None
        if duplicate is None:
            representative = window
        else:
            found.append(duplicate)
    return found


def _compare(representative: SeenWindow, window: SeenWindow, rule: DedupeSettings) -> Duplicate | None:
    a, b = representative.seen, window.seen
    if a is None or b is None:
        return None
    if _is_exact(representative, window, a, b):
        evidence: dict[str, object] = {"frames": len(b.frame_hashes), "frames_digest": b.frames_digest}
        return Duplicate(window.window_id, representative.window_id, 0.0, evidence)
    if rule.mode != "near" or not _is_as_long(representative, window):
        return None
    light, color = _largest_change(a, b)
    shares = _shares(representative, window, a, b)
    distance = float(shares.mean())
    if light > NEAR_LEVELS or color > NEAR_LEVELS or distance > rule.distance:
        return None
    evidence = {
        "frames": len(b.frame_hashes),
        "worst_frame": float(shares.max()),
        "light_levels": light,
        "color_levels": color,
    }
    return Duplicate(window.window_id, representative.window_id, distance, evidence)


def _is_exact(one: SeenWindow, other: SeenWindow, a: WindowPrint, b: WindowPrint) -> bool:
    if a.frames_digest != b.frames_digest or len(one.times_s) != len(other.times_s):
        return False
    return bool(np.allclose(_from_start(one), _from_start(other), rtol=0, atol=EXACT_TIME_S))


def _is_as_long(one: SeenWindow, other: SeenWindow) -> bool:
    lengths = (one.end_s - one.start_s, other.end_s - other.start_s)
    return max(lengths) - min(lengths) <= NEAR_LENGTH * max(lengths)


def _largest_change(a: WindowPrint, b: WindowPrint) -> tuple[int, int]:
    """Return the largest difference in levels, of a cell's lowest or highest luma, and of the mean colour."""
    light = np.abs(np.subtract(a.luma_low + a.luma_high, b.luma_low + b.luma_high, dtype=np.int64))
    color = np.abs(np.subtract(_channels(a.color), _channels(b.color)))
    return int(light.max()), int(color.max())


def _channels(color: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(color.removeprefix("#")))


def _shares(one: SeenWindow, other: SeenWindow, a: WindowPrint, b: WindowPrint) -> NDArray[np.float64]:
    """Return the share of differing bits of every frame of both windows and the frame nearest in time in the other."""
    apart = np.abs(_from_start(one)[:, None] - _from_start(other)[None, :])
    first, second = np.array(a.frame_hashes, np.uint64), np.array(b.frame_hashes, np.uint64)
    return np.concatenate(
        [bit_share(first, second[apart.argmin(axis=1)]), bit_share(first[apart.argmin(axis=0)], second)]
    )


def _from_start(window: SeenWindow) -> NDArray[np.float64]:
    return np.array(window.times_s) - window.start_s
