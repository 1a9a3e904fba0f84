"""Which frames belong together: a clip's frames cut into windows, each captioned on its own.

>>> plan_windows(600)
[FrameRange(start=0, end=255), FrameRange(start=256, end=599)]
"""

from dataclasses import dataclass

from caption_assets.settings.groups import WindowSettings

MIN_WINDOW_FRAMES = 4
"""Frames. Fewer are never a window: the models read frames in pairs and a caption of motion needs two pairs."""

DEFAULTS = WindowSettings()


@dataclass(frozen=True)
class FrameRange:
    """Frames `start` to `end` of a clip, both inclusive, counted from 0."""

    start: int
    end: int

    @property
    def n_frames(self) -> int:
        """Number of frames in the range."""
        return self.end - self.start + 1


def plan_windows(
    n_frames: int,
    window_size: int = DEFAULTS.window_size,
    remainder_threshold: int = DEFAULTS.remainder_threshold,
) -> list[FrameRange]:
    """Cut frames 0 to `n_frames` - 1 into windows: every frame in exactly one window, in order.

    Under 4 frames there is no window; up to `window_size` there is one. Beyond that every window has `window_size`
    frames, and the rest becomes a window of its own when it has at least `remainder_threshold` frames (and at least
    4), or else joins the last window. With the defaults the last window has 128 to 383 frames.

    Raises:
        ValueError: n_frames is negative, window_size is below 4 or remainder_threshold is below 1.
    """
    check_window_rule(window_size, remainder_threshold)
    if n_frames < 0:
        raise ValueError(f"n_frames is {n_frames}, allowed: 0 or more")
    if n_frames < MIN_WINDOW_FRAMES:
        return []
    if n_frames <= window_size:
        return [FrameRange(0, n_frames - 1)]

    n_full, rest = divmod(n_frames, window_size)
    starts = [i * window_size for i in range(n_full)]
    if rest >= max(remainder_threshold, MIN_WINDOW_FRAMES):
        starts.append(n_full * window_size)
    ends = [start - 1 for start in starts[1:]] + [n_frames - 1]
    return [FrameRange(start, end) for start, end in zip(starts, ends, strict=True)]


def check_window_rule(window_size: int, remainder_threshold: int) -> None:
    """Raise ValueError, with the allowed range, for a window rule that cannot be followed."""
    if window_size < MIN_WINDOW_FRAMES:
        raise ValueError(f"window_size is {window_size} frames, allowed: {MIN_WINDOW_FRAMES} or more")
    if remainder_threshold < 1:
        raise ValueError(f"remainder_threshold is {remainder_threshold} frames, allowed: 1 or more")
