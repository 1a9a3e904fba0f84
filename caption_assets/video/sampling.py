"""Which frames of a window a model sees: evenly spaced in time, however the clip's own frames are spaced."""

import math
from bisect import bisect_right
from collections.abc import Sequence

from caption_assets.video.windowing import DEFAULTS, MIN_WINDOW_FRAMES

MIN_SAMPLED_FRAMES = 4
"""Frames of a window a model sees at least (Qwen-VL video rule)."""

MAX_SAMPLED_FRAMES = 768
"""Frames of a window a model sees at most (Qwen-VL video rule)."""

PRODUCT_DECIMALS = 6
"""252 frames at 24 a second sampled at 2.0 are 21 frames, not 20.999999999: what decides a tie is rounded first."""

TIE_S = 1e-9
"""Seconds. Two frames whose distances to a target differ by less are equally near, and the earlier one is taken."""


def sample_frames(
    times_s: Sequence[float], start: int, end: int, sampling_fps: float = DEFAULTS.sampling_fps
) -> list[int]:
    """Choose frames of the window `start` to `end` (inclusive), evenly spaced in time.

    The first is always `start`, the last `end`, and their number is that of `sample_count`. Targets divide the time
    from the first to the last frame evenly; each takes the nearest frame, the earlier one on a tie. Where a hole
    makes two targets want the same frame, the next free one is used, so the result is strictly ascending. At a
    constant frame rate this equals round(linspace(start, end, n)).

    Args:
        times_s: seconds of every frame of the clip (not only of the window), ascending.
        start: first frame of the window, counted from 0.
        end: last frame of the window, inclusive.
        sampling_fps: sampled frames a second, above 0.

    Returns:
        Indices into `times_s`, strictly ascending, an even number of them.

    Raises:
        ValueError: sampling_fps is not above 0, the window has under 4 frames or is not within the clip.
    """
    if not 0 <= start <= end < len(times_s):
        raise ValueError(f"window {start} to {end} is not within the clip's {len(times_s)} frames")
    length = end - start + 1
    if length < MIN_WINDOW_FRAMES:
        raise ValueError(f"window {start} to {end} has {length} frames, allowed: {MIN_WINDOW_FRAMES} or more")
    first_s, span_s = times_s[start], times_s[end] - times_s[start]
    n = sample_count(length, span_s, sampling_fps)

    chosen = [_nearest(times_s, start, end, first_s + span_s * i / (n - 1)) for i in range(n)]
    chosen[0], chosen[-1] = start, end
    for i in range(1, n):
        chosen[i] = max(chosen[i], chosen[i - 1] + 1)
    chosen[-1] = end
    for i in range(n - 2, -1, -1):
        chosen[i] = min(chosen[i], chosen[i + 1] - 1)
    return chosen


def sample_count(length: int, span_s: float, sampling_fps: float) -> int:
    """Return how many frames are sampled from a window of `length` frames (4 or more): an even number.

    n = length / fps * sampling_fps, where fps = (length - 1) / span_s is the window's own rate and `span_s` the
    seconds from its first to its last frame; clamped to [4, min(768, length) rounded down to even], then rounded to
    even. This is the Qwen-VL rule (`smart_nframes` in qwen_vl_utils) applied to a window.

    Raises:
        ValueError: sampling_fps is not a number above 0.
    """
    check_sampling_fps(sampling_fps)
    product = round(length * span_s / (length - 1) * sampling_fps, PRODUCT_DECIMALS)
    highest = min(MAX_SAMPLED_FRAMES, length) // 2 * 2
    return round(min(max(product, MIN_SAMPLED_FRAMES), highest) / 2) * 2


def check_sampling_fps(sampling_fps: float) -> None:
    """Raise ValueError unless `sampling_fps` is a finite number above 0."""
    if not (sampling_fps > 0 and math.isfinite(sampling_fps)):
        raise ValueError(f"sampling_fps is {sampling_fps}, allowed: above 0")


def _nearest(times_s: Sequence[float], start: int, end: int, target_s: float) -> int:
    """Return the frame of `start` to `end` nearest to `target_s`, the earlier one on a tie."""
    after = bisect_right(times_s, target_s, start, end + 1)
    if after == start:
        return start
    if after > end:
        return end
    before = after - 1
    return after if target_s - times_s[before] > times_s[after] - target_s + TIE_S else before
