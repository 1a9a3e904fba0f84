"""The sampled frames of a window as they lie on disk and travel to a model."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class PackedFrames:
    """The sampled frames of a window as they travel to a model.

    jpegs: one JPEG per frame, all of `width` x `height` pixels, upright, square pixels, in time order.
    times_s: seconds of each frame from the clip's first frame, ascending.
    """

    jpegs: Sequence[bytes]
    times_s: Sequence[float]
    width: int
    height: int

    def __post_init__(self) -> None:
        if len(self.jpegs) != len(self.times_s):
            raise ValueError(f"{len(self.jpegs)} frames with {len(self.times_s)} times")
