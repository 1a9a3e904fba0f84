"""Scene cuts are found on the very frame, whatever the times say and whatever is broken."""

import subprocess
import sys
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import pytest

from caption_assets.video.decode import decode_frames
from caption_assets.video.probe import probe_clip
from caption_assets.video.scenes import find_scene_cuts
from tests.video.encoders import repeatable
from tests.video.films import CLIPS, pictures_in_full
from tests.video.test_decode import damage_packet

WIDTH, HEIGHT = 320, 240
PIECES = (("bigbuckbunny.mp4", 60), ("ocean.mp4", 45), ("cityCC0.mpg", 50), ("bigbuckbunny.mp4", 30))
CUTS = [60, 105, 155]
"""First frames of the second, third and fourth piece."""


def joined(path: Path, pts: list[int] | None = None) -> Path:
    """Write the first frames of some demo clips one after the other, as one file."""
    frames = [picture for name, n in PIECES for picture in pictures_in_full(CLIPS / name)[:n]]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            "libx264", rate=25, options=repeatable("libx264", {"bf": "2", "g": "30", "sc_threshold": "0"})
        )
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.thread_count = 1
        stream.codec_context.time_base = Fraction(1, 1000)
        for number, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(WIDTH, HEIGHT, "yuv420p")
            frame.pts, frame.time_base = (number * 40 if pts is None else pts[number]), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def film(tmp_path_factory) -> Path:
    return joined(tmp_path_factory.mktemp("scenes") / "film.mp4")


def test_cuts_are_found_on_the_very_frame_with_their_scores(film):
    cuts = find_scene_cuts(film, probe_clip(film), 27.0)
    assert list(cuts) == CUTS
    assert all(27 <= score <= 255 for score in cuts.values())


def test_the_threshold_is_the_score_from_which_on_a_change_is_a_cut(film):
    facts = probe_clip(film)
    scores = find_scene_cuts(film, facts, 27.0)
    weakest = min(scores, key=scores.__getitem__)
    assert list(find_scene_cuts(film, facts, scores[weakest] + 0.01)) == [cut for cut in CUTS if cut != weakest]
    assert set(find_scene_cuts(film, facts, 0.5)) > set(CUTS)


@pytest.mark.parametrize("name", ["bigbuckbunny.mp4", "ocean.mp4"])
def test_a_clip_of_one_scene_has_no_cut(name):
    path = CLIPS / name
    assert find_scene_cuts(path, probe_clip(path), 27.0) == {}


def test_uneven_times_change_nothing(tmp_path):
    times_ms = [0]
    for number in range(1, 185):
        times_ms.append(times_ms[-1] + (700 if number % 37 == 0 else 20 if number % 2 else 55))
    path = joined(tmp_path / "vfr.mkv", times_ms)
    facts = probe_clip(path)
    assert facts.is_vfr
    assert list(find_scene_cuts(path, facts, 27.0)) == CUTS


def test_frames_placed_by_their_order_change_nothing(tmp_path):
    path = joined(tmp_path / "no_times.avi")
    facts = probe_clip(path)
    assert not facts.by_pts
    assert list(find_scene_cuts(path, facts, 27.0)) == CUTS


def test_frames_that_do_not_decode_are_passed_over(film, tmp_path):
    """What is lost with the packet that holds the cut ends at the next key frame: there the change is seen."""
    broken = tmp_path / "broken.mp4"
    damage_packet(film, broken, 100, n_bytes=400)
    facts = probe_clip(broken)
    clean = [index for index, _ in decode_frames(broken, facts, range(facts.n_frames))]
    assert 105 not in clean
    seen_at = next(index for index in clean if index > 105)
    assert list(find_scene_cuts(broken, facts, 27.0)) == [60, seen_at, 155]


def test_pyscenedetect_itself_finds_the_same(film):
    """Against PySceneDetect reading the file on its own, which we let it do here only."""
    from scenedetect import ContentDetector, detect

    scenes = detect(str(film), ContentDetector(threshold=27.0, min_scene_len=1))
    assert [after[0].frame_num for _, after in pairwise(scenes)] == CUTS


def test_without_pyscenedetect_the_message_says_what_to_install():
    code = (
        "import sys; sys.modules['scenedetect'] = None\n"
        "from caption_assets.video.scenes import *\n"
        "try: check_scene_detection()\n"
        "except SceneDetectionMissing as fault: print(fault)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True).stdout
    assert "pip install 'caption_assets[scenes]'" in said
