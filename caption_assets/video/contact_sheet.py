"""A strip of small pictures from a window, for people to look at."""

import numpy as np
import simplejpeg

from caption_assets.video.packed_frames import PackedFrames

STRIP_FRAMES = 6
STRIP_HEIGHT = 120
STRIP_QUALITY = 70


def frame_strip(frames: PackedFrames) -> bytes:
    """Return a JPEG with up to 6 frames of the window side by side, evenly spaced, 120 pixels high or lower."""
    count = len(frames.jpegs)
    chosen = sorted({round(position) for position in np.linspace(0, count - 1, min(STRIP_FRAMES, count))})
    pictures = [_small(frames.jpegs[index]) for index in chosen]
    return bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(np.hstack(pictures)), quality=STRIP_QUALITY))


def _small(jpeg: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    # The decoder scales by eighths while it decodes; what is left to the wanted height is averaged over blocks.
    pixels = simplejpeg.decode_jpeg(jpeg, min_height=STRIP_HEIGHT, min_width=1, min_factor=1)
    block = max(1, pixels.shape[0] // STRIP_HEIGHT)
    height, width = pixels.shape[0] // block * block, pixels.shape[1] // block * block
    blocks = pixels[:height, :width].reshape(height // block, block, width // block, block, 3)
    return np.asarray(blocks.mean(axis=(1, 3)), dtype=np.uint8)
