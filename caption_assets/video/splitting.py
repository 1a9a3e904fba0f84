"""Which frames of a file are a clip: a file split at a fixed stride, or where its scenes change.

Every frame of the file is in exactly one part, in order. No frame is cut in two and none is dropped, so a part that
would be too short joins a neighbour.

>>> times = [i / 25 for i in range(25 * 34)]
>>> [(part.start, part.end) for part in stride_parts(times, 34.0, length_s=10, min_length_s=5)]
[(0, 249), (250, 499), (500, 849)]
"""

import heapq
import math
import statistics
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from caption_assets.video.probe import ClipFacts, is_uneven
from caption_assets.video.windowing import MIN_WINDOW_FRAMES

TIE_S = 1e-9
"""Seconds. A frame so little before a stride begins it, and a length so little beyond a limit keeps it."""


@dataclass(frozen=True)
class Part:
    """Frames `start` to `end` of a file, both inclusive. score: of the scene cut that it begins with, where it does."""

    start: int
    end: int
    score: float | None = None


@dataclass(frozen=True)
class PartFacts:
    """What is true of a part of a file, in place of what is true of the file.

    start_s, end_s: seconds from the file's first frame to the part's first frame, and to the end of its last.
    first_pts_s: seconds on the container's clock at which the part's first frame is shown.
    fps: average frames a second, as `ClipFacts.fps`. is_vfr: the part's own frame times are uneven.
    """

    part: Part
    start_s: float
    end_s: float
    first_pts_s: float
    fps: float
    is_vfr: bool

    @property
    def n_frames(self) -> int:
        """Frames of the part."""
        return self.part.end - self.part.start + 1


def stride_parts(times_s: Sequence[float], end_s: float, *, length_s: float, min_length_s: float) -> list[Part]:
    """Split a file every `length_s` seconds: part k has the frames shown from k · length_s on.

    A part that lasts less than `min_length_s`, or has too few frames for a window, joins its shorter neighbour. That is
    the rest at the end, and what a hole of a variable frame rate leaves.

    Args:
        times_s: seconds of every frame from the first, ascending.
        end_s: end of the last frame.
        length_s: above 0.
        min_length_s: 0 or more.
    """
    cuts: dict[int, float] = {}
    stride = 0
    for frame, time_s in enumerate(times_s):
        if (now := int((time_s + TIE_S) // length_s)) > stride:
            cuts[frame], stride = 0.0, now
    starts = _join_short([*times_s, end_s], cuts, min_length_s, 0, len(times_s))
    return _as_parts(starts, len(times_s), {})


def scene_parts(
    times_s: Sequence[float],
    end_s: float,
    cuts: Mapping[int, float],
    *,
    min_length_s: float,
    max_length_s: float,
) -> list[Part]:
    """Split a file at its scene cuts.

    A scene shorter than `min_length_s`, or of too few frames for a window, joins a neighbour across the weaker of its
    two cuts, the shortest scene first. Then a scene longer than `max_length_s` is cut evenly. Where the frames of a
    variable rate leave no place to cut, the minimum is kept before the maximum.

    Args:
        times_s: seconds of every frame from the first, ascending.
        end_s: end of the last frame.
        cuts: first frame of each scene but the first, and the score of the cut before it.
        min_length_s: 0 or more.
        max_length_s: at least twice the minimum.
    """
    edges_s = [*times_s, end_s]
    scenes = [*_join_short(edges_s, cuts, min_length_s, 0, len(times_s)), len(times_s)]
    starts: list[int] = []
    for first, after in pairwise(scenes):
        even = dict.fromkeys(_even_cuts(edges_s, first, after, max_length_s), 0.0)
        starts += _join_short(edges_s, even, min_length_s, first, after)
    kept = {frame: cuts[frame] for frame in scenes[1:-1]}
    return _as_parts(starts, len(times_s), kept)


def part_facts(facts: ClipFacts, part: Part) -> PartFacts:
    """Return what is true of a part of the file that `facts` describe."""
    times_s = part_times_s(facts, part.start, part.end)
    steps = [after - before for before, after in pairwise(times_s)]
    span_s = times_s[-1]
    return PartFacts(
        part=part,
        start_s=facts.times_s[part.start],
        end_s=frame_end_s(facts, part.end),
        first_pts_s=float(facts.pts[part.start] * facts.time_base),
        fps=(len(times_s) - 1) / span_s if span_s > 0 else facts.fps,
        is_vfr=is_uneven(times_s, steps, statistics.median(steps) if steps else 0.0),
    )


def part_times_s(facts: ClipFacts, start: int, end: int) -> tuple[float, ...]:
    """Return seconds of frames `start` to `end` (inclusive), from the first of them."""
    first, numerator, denominator = facts.pts[start], facts.time_base.numerator, facts.time_base.denominator
    return tuple((pts - first) * numerator / denominator for pts in facts.pts[start : end + 1])


def frame_end_s(facts: ClipFacts, frame: int) -> float:
    """Return the seconds from the file's first frame to the end of `frame`."""
    return facts.duration_s if frame + 1 == facts.n_frames else facts.times_s[frame + 1]


def _even_cuts(edges_s: Sequence[float], first: int, after: int, max_length_s: float) -> list[int]:
    """Return where to cut frames `first` to `after` (exclusive) so that parts last alike, each up to `max_length_s`.

    A cut falls on a frame, so a part may be longer than its share by one frame: then one part more is made.
    """
    length_s = edges_s[after] - edges_s[first]
    if length_s <= max_length_s + TIE_S:
        return []
    longest_step_s = max(edges_s[frame + 1] - edges_s[frame] for frame in range(first, after))
    cuts = _cut_into(math.ceil(length_s / max_length_s - TIE_S), edges_s, first, after)
    lengths = (edges_s[b] - edges_s[a] for a, b in pairwise([first, *cuts, after]))
    if max(lengths) > max_length_s + TIE_S and longest_step_s < max_length_s / 2:
        cuts = _cut_into(math.ceil(length_s / (max_length_s - longest_step_s)), edges_s, first, after)
    return cuts


def _cut_into(n: int, edges_s: Sequence[float], first: int, after: int) -> list[int]:
    start_s, length_s = edges_s[first], edges_s[after] - edges_s[first]
    if n >= after - first:
        return list(range(first + 1, after))
    found = {bisect_right(edges_s, start_s + length_s * i / n + TIE_S, first, after) - 1 for i in range(1, n)}
    return sorted(found - {first})


def _join_short(
    edges_s: Sequence[float], cuts: Mapping[int, float], min_length_s: float, first: int, after: int
) -> list[int]:
    """Return the first frames of the parts of `first` to `after` (exclusive) that are left when short ones have joined.

    The shortest part joins first, across the weaker of its two cuts; where both are alike, the shorter neighbour.
    """
    starts = [first, *sorted(frame for frame in cuts if first < frame < after)]
    before = dict(zip(starts[1:], starts, strict=False))
    behind = dict(zip(starts, [*starts[1:], after], strict=True))

    def short(start: int) -> tuple[float, int, int] | None:
        end = behind[start]
        length_s = edges_s[end] - edges_s[start]
        is_short = length_s < min_length_s - TIE_S or end - start < MIN_WINDOW_FRAMES
        return (length_s, start, end) if is_short else None

    def joins_next(start: int, end: int) -> bool:
        if cuts[start] != cuts[end]:
            return cuts[end] < cuts[start]
        return edges_s[behind[end]] - edges_s[end] < edges_s[start] - edges_s[before[start]]

    waiting = [found for start in starts if (found := short(start))]
    heapq.heapify(waiting)
    while waiting:
        _, start, end = heapq.heappop(waiting)
        if behind.get(start) != end or (start == first and end == after):
            continue  # it has joined another one since, or is all there is
        gone = end if start == first or (end != after and joins_next(start, end)) else start
        left, right = before.pop(gone), behind.pop(gone)
        behind[left] = right
        if right != after:
            before[right] = left
        if found := short(left):
            heapq.heappush(waiting, found)
    return sorted(behind)


def _as_parts(starts: Sequence[int], n_frames: int, scores: Mapping[int, float]) -> list[Part]:
    return [Part(start, after - 1, scores.get(start)) for start, after in pairwise([*starts, n_frames])]
