"""Echoes: which other windows of a clip have a candidate with the same words, and how different they look.

Within a clip only: what is said of a window then never depends on which batch shows it beside which other clips.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from caption_assets.ledger.schema import CandidateRow
from caption_assets.retention import Echo
from caption_assets.retention.similarity import words

MAX_ECHOES = 8
"""A clip of a thousand windows with one caption has a million pairs; the nearest few tell as much."""

Hashes = Sequence[int]


@dataclass(frozen=True, slots=True)
class WindowLook:
    """A window by the perceptual hashes of its sampled frames."""

    window_id: str
    clip_id: str
    frame_hashes: list[int] | None


def looks_apart(one: Hashes, other: Hashes) -> float | None:
    """Return the mean share of perceptual hash bits that differ, 0 to 1; frames are compared at the same part of each.

    None where nothing is known of one of them. Pictures that have nothing in common differ in about half of the bits.
    """
    if not one or not other:
        return None
    n = max(len(one), len(other))
    at = np.arange(n)
    a = np.array(one, np.uint64)[at * len(one) // n]
    b = np.array(other, np.uint64)[at * len(other) // n]
    return float(np.bitwise_count(a ^ b).mean() / 64)


def find_echoes(candidates: Sequence[CandidateRow], windows: Sequence[WindowLook]) -> dict[str, tuple[Echo, ...]]:
    """Return the echoes of each candidate that has any.

    windows: in the order of each clip. Of many echoes the neighbours and the nearest others are taken.
    """
    place = {row.window_id: index for index, row in enumerate(windows)}
    said: dict[tuple[str, tuple[str, ...]], dict[str, list[str]]] = defaultdict(dict)
    for row in candidates:
        if row.text and row.window_id in place:
            key = (windows[place[row.window_id]].clip_id, tuple(words(row.text)))
            said[key].setdefault(row.window_id, []).append(row.candidate_id)
    found: dict[str, tuple[Echo, ...]] = {}
    for by_window in said.values():
        if len(by_window) == 1:
            continue
        order = sorted(by_window, key=place.__getitem__)
        for position, window in enumerate(order):
            near = order[max(0, position - MAX_ECHOES // 2) : position] + order[position + 1 :][: MAX_ECHOES // 2]
            echoes = tuple(echo for other in near if (echo := _echo(windows, place[window], place[other])) is not None)
            found |= {candidate: echoes for candidate in by_window[window] if echoes}
    return found


def _echo(windows: Sequence[WindowLook], here: int, there: int) -> Echo | None:
    apart = looks_apart(windows[here].frame_hashes or (), windows[there].frame_hashes or ())
    if apart is None:
        return None
    return Echo(windows[there].window_id, apart, is_neighbour=abs(here - there) == 1)
