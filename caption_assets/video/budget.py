"""How many pixels a sampled frame may have: the Qwen-VL video budget, divided over the frames of one window.

The rule is `smart_resize` of qwen_vl_utils 0.0.14 with its video constants. It is computed here, stored with the
packed frames and checked against the tokens an engine reports, because processors do not apply it reliably.
"""

import math

DEFAULT_FACTOR = 28
"""Pixels of the side of one visual token: 28 for Qwen2.5-VL, 32 for Qwen3-VL. Sides are multiples of it."""

MIN_FRAME_TOKENS = 128
"""Visual tokens (factor x factor pixels) of a frame at least: 100,352 pixels at factor 28."""

MAX_FRAME_TOKENS = 768
"""Visual tokens of a frame at most: 602,112 pixels at factor 28."""

WINDOW_TOKENS = 24_576
"""Visual tokens of all frames of a window together: 19,267,584 pixels at factor 28."""

FRAMES_PER_TOKEN = 2
"""Frames that share one visual token in time: the models read frames in pairs."""

CEILING_OVER_FLOOR = 1.05
"""The ceiling stays at least this far above the floor, however many frames a window has."""

MAX_ASPECT_RATIO = 200
"""Longer side over shorter side beyond which a picture is refused."""


def fit_resolution(height: int, width: int, n_frames: int, *, factor: int = DEFAULT_FACTOR) -> tuple[int, int]:
    """Return the (height, width) in pixels, multiples of `factor`, at which `n_frames` frames fit the budget.

    Sides go to the nearest multiple of `factor`. An area of those above `frame_ceiling` divides the original sides by
    sqrt(original area / ceiling) and rounds down; one below the floor (128 factor²) multiplies them by
    sqrt(floor / original area) and rounds up. No side is ever below `factor`.

    Args:
        height: of the upright picture with square pixels.
        width: of the upright picture with square pixels.
        n_frames: sampled frames of the window, 1 or more.
        factor: pixels of the side of one visual token.

    Raises:
        ValueError: a number is not positive, or the aspect ratio is above 200.
    """
    for name, value in (("height", height), ("width", width), ("n_frames", n_frames), ("factor", factor)):
        if value < 1:
            raise ValueError(f"{name} is {value}, allowed: 1 or more")
    ratio = max(height, width) / min(height, width)
    if ratio > MAX_ASPECT_RATIO:
        raise ValueError(
            f"the aspect ratio of {width}x{height} is {ratio:.0f}, allowed: up to {MAX_ASPECT_RATIO}; crop the video"
        )

    floor, ceiling = frame_floor(factor), frame_ceiling(n_frames, factor)
    fitted_height = max(factor, round(height / factor) * factor)
    fitted_width = max(factor, round(width / factor) * factor)
    if fitted_height * fitted_width > ceiling:
        shrink = math.sqrt(height * width / ceiling)
        fitted_height = max(factor, math.floor(height / shrink / factor) * factor)
        fitted_width = max(factor, math.floor(width / shrink / factor) * factor)
    elif fitted_height * fitted_width < floor:
        grow = math.sqrt(floor / (height * width))
        fitted_height = math.ceil(height * grow / factor) * factor
        fitted_width = math.ceil(width * grow / factor) * factor
    return fitted_height, fitted_width


def frame_floor(factor: int = DEFAULT_FACTOR) -> int:
    """Return the pixels below which a frame is enlarged: 128 factor²."""
    return MIN_FRAME_TOKENS * factor**2


def frame_ceiling(n_frames: int, factor: int = DEFAULT_FACTOR) -> float:
    """Return the pixels above which each of `n_frames` frames is shrunk.

    max(min(768 factor², 24576 factor² · 2 / n_frames), 1.05 · 128 factor²)
    """
    share = WINDOW_TOKENS * factor**2 * FRAMES_PER_TOKEN / n_frames
    return max(min(MAX_FRAME_TOKENS * factor**2, share), CEILING_OVER_FLOOR * frame_floor(factor))
