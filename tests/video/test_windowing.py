import pytest
from hypothesis import given
from hypothesis import strategies as st

from caption_assets.video.windowing import FrameRange, plan_windows


@pytest.mark.parametrize(
    ("n_frames", "expected"),
    [
        (0, []),
        (3, []),
        (4, [(0, 3)]),
        (256, [(0, 255)]),
        (257, [(0, 256)]),
        (383, [(0, 382)]),
        (384, [(0, 255), (256, 383)]),
        (557, [(0, 255), (256, 556)]),
        (640, [(0, 255), (256, 511), (512, 639)]),
    ],
)
def test_the_default_rule_gives_these_windows(n_frames, expected):
    assert plan_windows(n_frames) == [FrameRange(*pair) for pair in expected]


@pytest.mark.parametrize("rest", [1, 2, 3])
def test_a_rest_under_four_frames_joins_the_last_window_whatever_the_threshold(rest):
    assert plan_windows(16 + rest, 8, 1) == [FrameRange(0, 7), FrameRange(8, 15 + rest)]


@given(st.integers(0, 5000), st.integers(4, 600), st.integers(1, 700))
def test_every_frame_is_in_exactly_one_window_and_no_window_is_too_short(n_frames, size, threshold):
    windows = plan_windows(n_frames, size, threshold)
    covered = [frame for window in windows for frame in range(window.start, window.end + 1)]
    assert covered == (list(range(n_frames)) if n_frames >= 4 else [])
    assert all(window.n_frames >= 4 for window in windows)
    assert all(window.n_frames == size for window in windows[:-1])


@given(st.integers(384, 5000))
def test_the_last_of_several_default_windows_has_128_to_383_frames(n_frames):
    assert 128 <= plan_windows(n_frames)[-1].n_frames <= 383


@pytest.mark.parametrize(
    ("arguments", "allowed"), [((10, 3, 1), "4 or more"), ((10, 8, 0), "1 or more"), ((-1, 8, 1), "0 or more")]
)
def test_an_impossible_rule_is_refused_with_what_is_allowed(arguments, allowed):
    with pytest.raises(ValueError, match=allowed):
        plan_windows(*arguments)
