"""The two fields of an interlaced frame, and where they disagree.

A sparse decoder lacks the neighbours that yadif and bwdif look at, so a frame is judged by itself: where its lines
show a comb, something moved between its fields and only the first field is shown; elsewhere the frame is as sharp as
a progressive one and stays whole.
"""

from collections.abc import Sequence
from fractions import Fraction

import av
import numpy as np
from av.filter import Graph
from av.video.frame import VideoFrame
from numpy.typing import NDArray

BLOCK = 16
"""Pixels of a side of the squares that are judged."""

MIN_TOOTH = 4
"""Of 255, by which a line must leave both its neighbours to be the tooth of a comb: above the noise of coding."""

COMBED_SHARE = 0.03
"""Of a block's pixels in teeth, from which on only the first field is shown; below, both are mixed by share.

Measured on film and screen content whose true pictures are known; half or twice of each loses under 1 dB.
"""

MAX_COLUMNS = 240
"""About as many columns are looked at: teeth are wide."""

STRIP_BLOCKS = 4
STRIP_LINES = 16
"""Rows of blocks judged, and lines mixed, at once: what lies between the steps stays in the cache of a core."""

_ONE = 128
"""A whole share, in the arithmetic of 16 bits that mixes the fields."""


class FieldSplitter:
    """Gives progressive views of interlaced frames. They share the frame's memory; nothing is copied."""

    def __init__(self) -> None:
        self._woven = _FilterChain("setfield=mode=prog")
        # A field of 4:2:0 has whole lines of chroma only where the frame's lines are a multiple of 4.
        self._fields = _FilterChain("crop=w=iw:h=4*floor(ih/4):x=0:y=0:exact=1", "separatefields")

    def woven(self, frame: VideoFrame) -> VideoFrame:
        """Return the frame with both fields, marked progressive."""
        return self._woven.newest(frame)

    def first(self, frame: VideoFrame) -> tuple[VideoFrame, bool]:
        """Return the field that is shown first, of half the height, and whether it is the top one."""
        field = self._fields.newest(frame)  # a push gives the second field of the frame before, then this one's first
        return field, field.planes[0].buffer_ptr == frame.planes[0].buffer_ptr


class _FilterChain:
    """A chain of the library's filters, made again when frames of another shape come."""

    def __init__(self, *filters: str) -> None:
        self._filters = filters
        self._shape: tuple[str, int, int] | None = None

    def newest(self, frame: VideoFrame) -> VideoFrame:
        """Push the frame and return the last of what comes out."""
        shape = (frame.format.name, frame.width, frame.height)
        if shape != self._shape:
            self._graph = self._make(frame)
            self._shape = shape
        self._graph.vpush(frame)
        newest = self._graph.vpull()
        try:
            while True:
                newest = self._graph.vpull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return newest

    def _make(self, frame: VideoFrame) -> Graph:
        graph = Graph()
        nodes = [
            graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 1000))
        ]
        for description in self._filters:
            name, _, arguments = description.partition("=")
            nodes.append(graph.add(name, arguments or None))
        nodes.append(graph.add("buffersink"))
        graph.link_nodes(*nodes).configure()
        return graph


def combed_blocks(luma: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return how much each square of `BLOCK` pixels of an interlaced picture is combed, 0 to 1.

    A tooth is a pixel brighter, or darker, than both its neighbours of the other field by more than twice what it
    differs from the next two lines of its own. That tells motion from detail: a thin line of a still picture differs
    from its own field too.

    Args:
        luma: shape (height, width).

    Returns:
        Shape (ceil(height / BLOCK), ceil(width / BLOCK)); with its neighbours, as combs end in what is not combed.
    """
    height, width = luma.shape
    rows, columns = -(-height // BLOCK), -(-width // BLOCK)
    step = 1 << min(BLOCK, max(1, width // MAX_COLUMNS)).bit_length() - 1
    share = np.zeros((rows, columns), np.float32)
    for first in range(0, rows, STRIP_BLOCKS):
        top = first * BLOCK
        teeth = np.zeros((min(STRIP_BLOCKS, rows - first) * BLOCK, columns * BLOCK // step), bool)
        found = _teeth(luma[max(0, top - 2) : top + len(teeth) + 2, ::step])
        at = 0 if top else 2
        teeth[at : at + len(found), : found.shape[1]] = found
        share[first : first + STRIP_BLOCKS] = teeth.reshape(-1, BLOCK, columns, BLOCK // step).mean(axis=(1, 3))
    around = np.pad(np.minimum(share / np.float32(COMBED_SHARE), 1), 1, mode="edge")
    combed: NDArray[np.float32] = np.max(
        [around[y : y + rows, x : x + columns] for y in range(3) for x in range(3)], axis=0
    )
    return combed


def _teeth(luma: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Tell of every pixel whether it is the tooth of a comb; shape (height - 4, width): the edges lack neighbours."""
    lines = luma.astype(np.int16)
    here = lines[2:-2]
    above, below = here - lines[1:-3], here - lines[3:-1]
    on_a_slope = (above ^ below) < 0
    tooth = np.minimum(np.abs(above), np.abs(below))
    tooth -= 2 * np.maximum(np.abs(here - lines[:-4]), np.abs(here - lines[4:]))
    is_tooth: NDArray[np.bool_] = tooth > MIN_TOOTH
    return is_tooth & ~on_a_slope


def mix(
    woven: NDArray[np.uint8], field: NDArray[np.uint8], combed: NDArray[np.float32], shift: float
) -> NDArray[np.uint8]:
    """Return the picture with the field shown where it is combed.

    Args:
        woven: both fields at the wanted size, shape (height, width, 3).
        field: the first field at that size.
        combed: of `combed_blocks`.
        shift: lines by which `field` is to be moved down, -1 to 1.
    """
    height, width, _ = woven.shape
    weights = np.round(resized(combed, (height, width)) * _ONE).astype(np.int16)[..., None]
    above = shift > 0
    moved = round(abs(shift) * _ONE)
    picture = woven.copy()
    for top in range(0, height, STRIP_LINES):
        strip = slice(top, top + STRIP_LINES)
        if not weights[strip].any():
            continue
        rows = np.arange(top, min(top + STRIP_LINES, height))
        neighbours = np.clip(rows - 1 if above else rows + 1, 0, height - 1)
        lines = field[strip].astype(np.int16)
        lines += _part(field[neighbours] - lines, moved)
        lines += _part(woven[strip] - lines, _ONE - weights[strip])
        picture[strip] = lines
    return picture


def _part(difference: NDArray[np.int16], share: "int | NDArray[np.int16]") -> NDArray[np.int16]:
    """Return that share of the difference, in 1 / _ONE, rounded. 255 * _ONE and a half fit 16 bits."""
    difference *= share
    difference += _ONE // 2
    difference >>= _ONE.bit_length() - 1
    return difference


def resized(blocks: NDArray[np.float32], shape: Sequence[int]) -> NDArray[np.float32]:
    """Return a map of blocks at another shape (height, width), linear between the middles of the blocks."""
    for axis, wanted in enumerate(shape):
        size = blocks.shape[axis]
        at = np.clip((np.arange(wanted, dtype=np.float32) + 0.5) * size / wanted - 0.5, 0, size - 1)
        before = at.astype(np.intp)
        part = (at - before).astype(np.float32)
        low, high = blocks.take(before, axis), blocks.take(np.minimum(before + 1, size - 1), axis)
        blocks = low + (high - low) * (part[:, None] if axis == 0 else part)
    return blocks
