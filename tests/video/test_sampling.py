from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caption_assets.video.sampling import sample_frames


def even_times(n_frames, fps):
    return [index / fps for index in range(n_frames)]


@pytest.mark.parametrize(
    ("n_frames", "fps", "sampling_fps", "n_sampled"),
    [
        (252, 24, 2.0, 20),  # 21.0 is a tie and goes to the even half, 10
        (256, 30, 2.0, 18),  # 17.07 / 2 = 8.53
        (256, 25, 2.0, 20),
        (132, 25, 2.0, 10),
        (4, 25, 2.0, 4),
        (5, 25, 100.0, 4),
        (10, 1, 1000.0, 10),
        (2000, 10, 10.0, 768),
        (256, 25, 0.001, 4),
    ],
)
def test_the_number_of_sampled_frames(n_frames, fps, sampling_fps, n_sampled):
    assert len(sample_frames(even_times(n_frames, fps), 0, n_frames - 1, sampling_fps)) == n_sampled


@given(st.integers(4, 900), st.integers(0, 300), st.sampled_from([23.976, 24, 25, 29.97, 30, 60]), st.floats(0.1, 40))
def test_a_constant_rate_gives_round_of_linspace(length, start, fps, sampling_fps):
    chosen = sample_frames(even_times(start + length + 5, fps), start, start + length - 1, sampling_fps)
    assert chosen == np.round(np.linspace(start, start + length - 1, len(chosen))).astype(int).tolist()


@given(st.lists(st.floats(0, 2), min_size=4, max_size=400), st.floats(0.01, 100))
def test_any_times_give_distinct_ascending_frames_from_first_to_last(steps, sampling_fps):
    times = np.cumsum(steps).tolist()
    chosen = sample_frames(times, 0, len(times) - 1, sampling_fps)
    assert chosen[0] == 0
    assert chosen[-1] == len(times) - 1
    assert all(before < after for before, after in pairwise(chosen))
    assert len(chosen) % 2 == 0
    assert 4 <= len(chosen) <= min(768, len(times))


def test_samples_are_even_in_time_and_not_in_frames_where_the_rate_changes():
    times = [index * 0.02 for index in range(100)] + [2.0 + index * 0.2 for index in range(50)]
    chosen = sample_frames(times, 0, 149, 1.0)
    gaps = np.diff([times[index] for index in chosen])
    assert np.ptp(gaps) <= 0.2 + 1e-9


def test_a_hole_makes_the_next_free_frame_stand_in():
    times = [0.0, 0.04, 0.08, 10.0, 10.04, 10.08]
    assert sample_frames(times, 0, 5, 0.33) == [0, 2, 3, 5]


def test_frames_that_all_have_one_time_give_the_minimum():
    assert len(sample_frames([1.0] * 50, 0, 49)) == 4


@pytest.mark.parametrize(
    ("start", "end", "sampling_fps", "message"),
    [
        (0, 9, 0, "above 0"),
        (0, 9, -1, "above 0"),
        (0, 2, 2, "4 or more"),
        (0, 10, 2, "not within"),
        (-1, 9, 2, "not within"),
    ],
)
def test_what_cannot_be_sampled_is_refused(start, end, sampling_fps, message):
    with pytest.raises(ValueError, match=message):
        sample_frames(even_times(10, 25), start, end, sampling_fps)
