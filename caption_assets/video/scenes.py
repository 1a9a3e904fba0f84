"""Where the scenes of a file change: PySceneDetect, shown the frames that our own decoder hands out.

PySceneDetect is never given a file: it would open it with OpenCV, which trusts what an upload refers to.
"""

from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter

from caption_assets.settings.groups import ClipSettings
from caption_assets.video.decode import TimesOutOfOrder, decode_frames
from caption_assets.video.probe import ClipFacts

DETECTION_WIDTH = 256
"""Pixels of the longer side of the frames that are compared, about what PySceneDetect itself shrinks to."""

HOW_TO_INSTALL = (
    "split = scenes needs PySceneDetect, which is not installed: pip install 'caption_assets[scenes]', or set split to "
    "stride or none"
)


class SceneDetectionMissing(RuntimeError):
    """PySceneDetect or its OpenCV is not installed. The message says what to install."""


def check_scene_detection() -> None:
    """Raise SceneDetectionMissing unless scenes can be detected here. Imports nothing."""
    if find_spec("scenedetect") is None or find_spec("cv2") is None:
        raise SceneDetectionMissing(HOW_TO_INSTALL)


def find_scene_cuts(
    path: Path,
    facts: ClipFacts,
    threshold: float,
    limits: ClipSettings = ClipSettings(),  # noqa: B008 - frozen
) -> dict[int, float]:
    """Return the first frame of each scene but the first, ascending, with its score: the change from the frame before.

    The score is PySceneDetect's `content_val`, the mean absolute difference of hue, saturation and value of two frames
    (0 to 255); a score of `threshold` or more is a cut. Every frame is decoded once. A frame that does not decode is
    passed over, so that the frames around it are compared.

    Raises:
        SceneDetectionMissing: PySceneDetect is not installed.
        UnreadableVideo: the file cannot be decoded.
    """
    try:
        return _find_cuts(path, facts, threshold, limits)
    except TimesOutOfOrder:
        return _find_cuts(path, replace(facts, by_pts=False), threshold, limits)


def _find_cuts(path: Path, facts: ClipFacts, threshold: float, limits: ClipSettings) -> dict[int, float]:
    check_scene_detection()
    import cv2
    from scenedetect.common import FrameTimecode
    from scenedetect.detectors import ContentDetector

    cv2.setNumThreads(1)  # clips are worked on side by side
    detector = ContentDetector(threshold=threshold, min_scene_len=0)  # lengths are the business of `splitting`
    cuts: dict[int, float] = {}
    for index, picture in _small_pictures(path, facts, limits):
        # Numbered, not timed: a cut is a frame, whatever the times of a variable rate say.
        for cut in detector.process_frame(FrameTimecode(index, fps=1.0), picture):
            # The public way to the score, a StatsManager, also finds edges, which takes four times as long.
            cuts[cut.frame_num] = float(detector._frame_score or 0.0)
    cuts.pop(0, None)
    return cuts


def _small_pictures(path: Path, facts: ClipFacts, limits: ClipSettings) -> Iterator[tuple[int, object]]:
    """Yield each frame that decodes as (index, uint8 array of shape (height, width, 3), blue first), ascending.

    One that only a second decode gives, after damage, comes too late and is left out.
    """
    scale = min(1.0, DETECTION_WIDTH / max(facts.width, facts.height))
    width, height = max(1, round(facts.width * scale)), max(1, round(facts.height * scale))
    shrink = VideoReformatter()
    newest = -1
    for index, frame in decode_frames(path, facts, range(facts.n_frames), limits):
        if index < newest:
            continue
        newest = index
        yield index, _shrunk(shrink, frame, width, height)


def _shrunk(shrink: VideoReformatter, frame: VideoFrame, width: int, height: int) -> object:
    small = shrink.reformat(frame, width, height, format="bgr24", interpolation=Interpolation.AREA, threads=1)
    return small.to_ndarray()
