"""Which windows are collapsed: rules on prints made by hand, then on films made on the spot and on the demo clips."""

from dataclasses import replace

import numpy as np
import pytest

from caption_assets.ids import WindowId
from caption_assets.settings.groups import DedupeSettings, WindowSettings
from caption_assets.video.duplicates import SeenWindow, find_duplicates
from caption_assets.video.fingerprint import WindowPrint
from caption_assets.video.pack import PackRule, pack_windows, plan_clip
from caption_assets.video.probe import probe_clip
from tests.video.films import CLIPS, film_of, frozen_film, make_film

OFF, EXACT, NEAR = (
    DedupeSettings(mode="off", distance=0.03),
    DedupeSettings(mode="exact", distance=0.03),
    DedupeSettings(mode="near", distance=0.03),
)
LENGTH_S = 10.0
N = 20


def window(index, *, hashes=(7,) * N, light=100, color="#646464", digest="d", length_s=LENGTH_S, shift_s=0.0):
    start = index * LENGTH_S
    times = tuple(start + shift_s + i * length_s / len(hashes) for i in range(len(hashes)))
    cells = tuple(light) if isinstance(light, list) else (light,) * 72
    seen = WindowPrint(tuple(hashes), cells, cells, color, digest)
    return SeenWindow(WindowId(f"w{index}"), start, start + length_s, times, seen)


def collapsed(windows, rule):
    return {found.window_id: found.duplicate_of for found in find_duplicates(windows, rule)}


def test_off_collapses_nothing():
    assert collapsed([window(0), window(1)], OFF) == {}


@pytest.mark.parametrize("rule", [EXACT, NEAR], ids=["exact", "near"])
def test_equal_windows_are_collapsed_into_the_first(rule):
    found = find_duplicates([window(0), window(1), window(2)], rule)
    assert [(each.window_id, each.duplicate_of, each.distance) for each in found] == [("w1", "w0", 0), ("w2", "w0", 0)]
    assert found[0].evidence == {"frames": N, "frames_digest": "d"}


def test_only_the_window_before_counts():
    windows = [window(0), window(1, digest="e", light=9), window(2)]
    assert collapsed(windows, EXACT) == collapsed(windows, NEAR) == {}
    assert collapsed([*windows, window(3)], EXACT) == {"w3": "w2"}


@pytest.mark.parametrize(
    ("other", "is_exact"),
    [
        (window(1, shift_s=0.001), True),
        (window(1, shift_s=0.0012), False),
        (window(1, hashes=(7,) * (N - 1)), False),
        (window(1, digest="e"), False),
        (window(1, length_s=LENGTH_S * 1.05), False),
    ],
    ids=["times to a millisecond", "times beyond", "fewer frames", "other pixels", "other times"],
)
def test_exact_means_the_same_pixels_at_the_same_times(other, is_exact):
    assert bool(collapsed([window(0), other], EXACT)) is is_exact


def differing(bits):
    """Hashes of which the first `bits` of all bits, spread over frames, differ from 7."""
    return tuple(7 ^ sum(1 << 63 - b for b in range(64) if frame * 64 + b < bits) for frame in range(N))


@pytest.mark.parametrize(
    ("other", "is_near"),
    [
        (window(1, digest="e", hashes=differing(38)), True),
        (window(1, digest="e", hashes=differing(39)), False),
        (window(1, digest="e", light=103), True),
        (window(1, digest="e", light=104), False),
        (window(1, digest="e", light=96), False),
        (window(1, digest="e", light=[100] * 71 + [104]), False),
        (window(1, digest="e", color="#646467"), True),
        (window(1, digest="e", color="#646864"), False),
        (window(1, digest="e", length_s=11.0), True),
        (window(1, digest="e", length_s=11.2), False),
        (window(1, digest="e", length_s=8.9), False),
        (window(1, digest="e", hashes=(7,) * (N + 1)), True),
    ],
)
def test_near_means_few_bits_about_the_same_light_colour_and_length(other, is_near):
    assert collapsed([window(0), other], EXACT) == {}
    assert bool(collapsed([window(0), other], NEAR)) is is_near


def test_near_says_what_it_rests_on():
    [found] = find_duplicates([window(0), window(1, digest="e", hashes=differing(32), light=98, color="#656464")], NEAR)
    assert found.distance == pytest.approx(32 / 64 / N)
    assert found.evidence == {"frames": N, "worst_frame": 0.5, "light_levels": 2, "color_levels": 1}


def test_frames_are_compared_with_those_at_the_same_time():
    """Twice as many frames, each seen twice: no difference. In the other order: all of it."""
    once = tuple(np.random.default_rng(8).integers(0, 2**64, 10, np.uint64).tolist())
    twice = tuple(value for value in once for _ in (0, 1))
    first, second = window(0, hashes=once, digest="a"), window(1, hashes=twice, digest="b")
    aligned = replace(second, times_s=tuple(second.start_s + i // 2 + (i % 2) * 0.4 for i in range(20)))
    assert find_duplicates([first, aligned], NEAR)[0].distance == 0
    backwards = replace(aligned, seen=replace(aligned.seen, frame_hashes=twice[::-1]))
    assert collapsed([first, backwards], NEAR) == {}


def test_slow_change_never_adds_up_unseen():
    fade = [window(i, digest=str(i), light=100 + i) for i in range(10)]
    assert collapsed(fade, NEAR) == {"w1": "w0", "w2": "w0", "w3": "w0", "w5": "w4", "w6": "w4", "w7": "w4", "w9": "w8"}


@pytest.mark.parametrize("rule", [EXACT, NEAR], ids=["exact", "near"])
def test_a_window_of_which_nothing_is_known_equals_none(rule):
    unknown = replace(window(1), seen=None)
    assert collapsed([window(0), unknown, replace(window(2), seen=None), window(3), window(4)], rule) == {"w4": "w3"}


# Films: four windows of 50 frames, two seconds each.
RULE = WindowSettings(window_size=50, remainder_threshold=25, sampling_fps=4.0)
SIZE = (180, 320)


def windows_of(path, folder, rule=RULE):
    facts = probe_clip(path)
    planned = [(f"w{index}", each) for index, each in enumerate(plan_clip(facts, rule))]
    outcomes = pack_windows(path, facts, planned, PackRule(), folder / "frames")
    return [
        SeenWindow(WindowId(name), each.start_s, each.end_s, each.frame_times_s, outcome.seen)
        for (name, each), outcome in zip(planned, outcomes, strict=True)
    ]


def scene():
    """A still picture with shapes of all sizes."""
    rng = np.random.default_rng(6)
    picture = np.kron(rng.integers(40, 200, (9, 16, 3)), np.ones((20, 20, 1)))
    return (picture * 0.7 + np.kron(rng.integers(0, 60, (45, 80, 3)), np.ones((4, 4, 1)))).astype(np.uint8)


def still_camera(n=200, noise=12.0, change=lambda n, picture: picture):
    rng, background = np.random.default_rng(7), scene()
    for number in range(n):
        picture = change(number, background.copy())
        yield np.clip(picture + rng.normal(0, noise, picture.shape), 0, 255).astype(np.uint8)


def walk(number, picture):
    """From the third window on, somebody of 8 by 24 pixels, 0.33 % of the picture, walks through it."""
    if number >= 100:
        x = 3 * (number - 100)
        picture[80:104, x : x + 8] = 20
    return picture


def brighten(number, picture):
    return np.clip(picture.astype(int) + number // 5, 0, 255)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda n, picture: picture, {"w1": "w0", "w2": "w0", "w3": "w0"}),
        (walk, {"w1": "w0"}),
        (brighten, {}),
    ],
    ids=["nothing happens", "somebody walks through", "a lamp is turned up"],
)
def test_a_still_camera(tmp_path, change, expected):
    film = film_of(tmp_path / "film.mp4", still_camera(change=change), options={"crf": "26", "g": "70"})
    windows = windows_of(film, tmp_path)
    assert collapsed(windows, EXACT) == {}
    assert collapsed(windows, NEAR) == expected


def test_a_frozen_picture_is_exact(tmp_path):
    windows = windows_of(frozen_film(tmp_path / "film.mp4", 150), tmp_path)
    assert collapsed(windows, EXACT) == {"w1": "w0", "w2": "w0"}


def test_one_other_pixel_is_not_exact(tmp_path):
    def pictures():
        for number in range(100):
            picture = np.full((*SIZE, 3), 90, np.uint8)
            picture[100, 100] = 200 if number >= 50 else 90
            yield picture

    windows = windows_of(film_of(tmp_path / "film.mp4", pictures(), options={"qp": "0"}), tmp_path)
    assert collapsed(windows, EXACT) == {}
    assert collapsed(windows, NEAR) == {"w1": "w0"}


def test_flat_pictures_of_other_light_or_colour_are_not_near(tmp_path):
    def pictures():
        for color in ((0, 0, 0), (40, 40, 40), (40, 40, 40), (60, 34, 24)):  # the last two have one luma
            yield from [np.full((*SIZE, 3), color, np.uint8)] * 50

    windows = windows_of(film_of(tmp_path / "film.mp4", pictures()), tmp_path)
    assert all(not any(each.seen.frame_hashes) for each in windows)
    assert abs(windows[2].seen.luma_low[0] - windows[3].seen.luma_low[0]) <= 2
    assert collapsed(windows, NEAR) == {"w2": "w1"}


def test_a_fade_to_black_is_told_from_black(tmp_path):
    pictures = (np.full((*SIZE, 3), max(0, 200 - number), np.uint8) for number in range(350))
    windows = windows_of(film_of(tmp_path / "film.mp4", pictures), tmp_path)
    assert len(windows) == 7
    assert collapsed(windows, NEAR) == {"w5": "w4", "w6": "w4"}


@pytest.mark.parametrize("name", sorted(path.name for path in CLIPS.iterdir()))
@pytest.mark.parametrize("frames", [16, 40])
def test_windows_of_real_clips_differ(tmp_path, name, frames):
    """Also those of the sea before a still camera, which differ in 0.05 of the bits."""
    windows = windows_of(
        CLIPS / name, tmp_path, WindowSettings(window_size=frames, remainder_threshold=frames // 2, sampling_fps=4.0)
    )
    assert len(windows) >= 3
    assert collapsed(windows, NEAR) == {}


def test_windows_of_a_film_that_moves_differ(tmp_path):
    assert (
        collapsed(
            windows_of(make_film(tmp_path / "film.mp4", 200), tmp_path), DedupeSettings(mode="near", distance=0.25)
        )
        == {}
    )
