"""What decoded pictures look like, in a few bytes: perceptual hashes, light and colour, and a digest of the pixels.

All of it is made from the decoded frame itself, so it does not depend on the size and quality at which frames are
packed. Hashes of pictures that look alike differ in few bits, whatever their codec, size and brightness.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xxhash
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter
from numpy.typing import ArrayLike, NDArray

from caption_assets import ids
from caption_assets.video.probe import ClipFacts

HASH_SIDE = 8
HASH_BITS = HASH_SIDE * HASH_SIDE

LUMA_WEIGHTS = np.array((0.299, 0.587, 0.114), np.float32)
"""Shares of R, G and B in luma, ITU-R BT.601."""

BIT_VALUES = np.uint64(1) << np.arange(HASH_BITS - 1, -1, -1, dtype=np.uint64)


@dataclass(frozen=True)
class FramePrint:
    """A picture in a few bytes.

    dhash: 64 bits, see `dhash`.
    luma: luma of 8 rows of 9 cells, uint8 of shape (8, 9).
    color: mean R, G and B, 0 to 255, of shape (3,).
    digest: of the decoded samples, see `pixel_digest`.
    """

    dhash: int
    luma: NDArray[np.uint8]
    color: NDArray[np.float32]
    digest: bytes


@dataclass(frozen=True)
class WindowPrint:
    """What the sampled frames of a window look like; the fields are columns of the table `windows`.

    frame_hashes: `dhash` of each frame.
    luma_low, luma_high: lowest and highest luma (0 to 255) that each of 8 rows of 9 cells has in any frame, row by row.
    color: mean colour of all frames, as #rrggbb.
    frames_digest: equal for windows whose frames are equal in every pixel.
    """

    frame_hashes: tuple[int, ...]
    luma_low: tuple[int, ...]
    luma_high: tuple[int, ...]
    color: str
    frames_digest: str

    @classmethod
    def of(cls, frames: Sequence[FramePrint]) -> "WindowPrint":
        """Put the prints of a window's frames (at least one, in order) together."""
        luma = np.stack([frame.luma for frame in frames]).reshape(len(frames), -1)
        red, green, blue = (round(value) for value in np.mean([frame.color for frame in frames], axis=0).tolist())
        return cls(
            frame_hashes=tuple(frame.dhash for frame in frames),
            luma_low=tuple(luma.min(axis=0).tolist()),
            luma_high=tuple(luma.max(axis=0).tolist()),
            color=f"#{red:02x}{green:02x}{blue:02x}",
            frames_digest=ids.digest(*(frame.digest.hex() for frame in frames)),
        )


class FramePrinter:
    """Takes the prints of decoded frames of one clip. One scaler is kept for all of them."""

    def __init__(self, facts: ClipFacts) -> None:
        self._quarter_turns = -(facts.rotation // 90) % 4  # numpy turns counter-clockwise
        self._mirrored = facts.mirrored
        self._scale = VideoReformatter()

    def print_of(self, frame: VideoFrame) -> FramePrint:
        """Return the print of a decoded frame. Hash and cells are those of the upright picture."""
        small = self._small(frame)
        luma = (small @ LUMA_WEIGHTS + 0.5).astype(np.uint8)
        return FramePrint(dhash(luma), luma, small.mean(axis=(0, 1), dtype=np.float32), pixel_digest(frame))

    def _small(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """Return the upright picture as RGB of shape (8, 9, 3), each pixel the average of its area."""
        down, across = HASH_SIDE, HASH_SIDE + 1
        if self._quarter_turns % 2:
            down, across = across, down
        picture = self._scale.reformat(
            frame,
            across,
            down,
            format="rgb24",
            interpolation=Interpolation.AREA,
            dst_color_range=ColorRange.JPEG,
            threads=1,
        ).to_ndarray()
        if self._mirrored:
            picture = picture[:, ::-1]
        return np.rot90(picture, self._quarter_turns)


def dhash(luma: ArrayLike) -> int:
    """Return the difference hash of a picture of shape (8, 9): a bit for each pixel that its right neighbour outshines.

    Rows from the top, the first pixel in the highest bit. It keeps through scaling, compression and changes of light,
    and says nothing about a flat picture, whose bits are all 0. Source: N. Krawetz, "Kind of Like That", The Hacker
    Factor Blog, 2013, https://www.hackerfactor.com/blog/index.php?/archives/529-Kind-of-Like-That.html
    """
    values = np.asarray(luma)
    if values.shape != (HASH_SIDE, HASH_SIDE + 1):
        raise ValueError(f"a picture of shape {values.shape}, wanted {(HASH_SIDE, HASH_SIDE + 1)}")
    return int(BIT_VALUES[(values[:, 1:] > values[:, :-1]).ravel()].sum())


def pixel_digest(frame: VideoFrame) -> bytes:
    """Return 16 bytes that identify the decoded samples: every visible byte of every plane, with format and size.

    XXH3, 128 bits: not cryptographic, and at memory speed where SHA-256 takes as long as packing the frame.
    """
    meaning = f"{frame.format.name} {frame.width}x{frame.height} {frame.color_range} {frame.colorspace}"
    digest = xxhash.xxh3_128(meaning.encode())
    for index, plane in enumerate(frame.planes):
        samples = np.frombuffer(memoryview(plane), np.uint8)
        if plane.line_size:  # a palette has no lines
            # Lines are padded, and what the padding holds is left from other frames.
            samples = samples.reshape(-1, abs(plane.line_size))[: plane.height, : _line_bytes(frame, index)]
        digest.update(np.ascontiguousarray(samples).data)
    return digest.digest()


def _line_bytes(frame: VideoFrame, plane: int) -> int:
    """Return the bytes of a line of a plane that hold samples."""
    width = frame.planes[plane].width
    components = [component for component in frame.format.components if component.plane == plane]
    if len(components) == len(frame.format.components):  # packed; components may share samples, as in yuyv422
        return -(-width * frame.format.padded_bits_per_pixel // 8)
    return sum(-(-component.bits // 8) for component in components) * width


def bit_share(a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    """Return the share of differing bits (0 to 1) of 64-bit hashes, pair by pair; shapes broadcast."""
    differing: NDArray[np.uint8] = np.bitwise_count(np.asarray(a, np.uint64) ^ np.asarray(b, np.uint64))
    return differing / np.float64(HASH_BITS)
