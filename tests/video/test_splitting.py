"""Which frames of a file are a clip: every frame in exactly one, none too short, none too long."""

import doctest
from fractions import Fraction
from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caption_assets.video import splitting
from caption_assets.video.probe import probe_clip
from caption_assets.video.splitting import Part, part_facts, scene_parts, stride_parts
from tests.video.films import make_film

STEPS = st.sampled_from([0.01, 1 / 60, 0.04, 0.04, 0.04, 0.1, 1.0, 7.5])
"""Seconds between frames: even runs with jumps, as variable rates have."""

vfr = st.lists(STEPS, min_size=1, max_size=300).map(lambda steps: [0.0, *accumulate(steps)])
"""Edges: the time of every frame, and the end of the last."""

cfr = st.builds(
    lambda n, fps: [i / fps for i in range(n + 1)], st.integers(1, 900), st.sampled_from([10, 24, 25, 30000 / 1001, 60])
)
lengths = st.floats(0.3, 12)
minima = st.floats(0, 4)


def ranges(parts: list[Part]) -> list[tuple[int, int]]:
    return [(part.start, part.end) for part in parts]


def check_partition(parts: list[Part], edges: list[float], min_length_s: float) -> None:
    n_frames = len(edges) - 1
    assert parts[0].start == 0
    assert parts[-1].end == n_frames - 1
    assert all(after.start == before.end + 1 for before, after in pairwise(parts))
    for part in parts if len(parts) > 1 else ():
        assert part.end - part.start + 1 >= 4
        assert edges[part.end + 1] - edges[part.start] >= min_length_s - 1e-6


def seconds(parts: list[Part], edges: list[float]) -> list[float]:
    return [edges[part.end + 1] - edges[part.start] for part in parts]


def test_the_example_is_true():
    assert doctest.testmod(splitting).failed == 0


@given(edges=st.one_of(vfr, cfr), length_s=lengths, min_length_s=minima)
def test_a_stride_puts_every_frame_into_one_part_of_the_minimum_or_more(edges, length_s, min_length_s):
    check_partition(
        stride_parts(edges[:-1], edges[-1], length_s=length_s, min_length_s=min_length_s), edges, min_length_s
    )


@given(edges=cfr, length_s=st.floats(2, 12), share=st.floats(0, 0.9))
def test_parts_of_a_constant_rate_begin_at_the_strides_and_only_the_last_is_of_another_length(edges, length_s, share):
    parts = stride_parts(edges[:-1], edges[-1], length_s=length_s, min_length_s=length_s * share)
    for k, part in enumerate(parts):
        assert part.start == next(i for i, edge in enumerate(edges) if edge >= k * length_s - 1e-9)
        assert part.score is None
    assert seconds(parts, edges)[-1] < length_s * (1 + share) + 4 * edges[1]  # too few frames for a window join too


@given(data=st.data(), edges=st.one_of(vfr, cfr), min_length_s=minima, factor=st.floats(2, 10))
def test_scenes_put_every_frame_into_one_part_of_the_minimum_or_more(data, edges, min_length_s, factor):
    frames = st.integers(1, max(1, len(edges) - 2))
    cuts = data.draw(st.dictionaries(frames, st.floats(27, 255), max_size=40)) if len(edges) > 2 else {}
    max_length_s = max(0.1, min_length_s * factor)
    parts = scene_parts(edges[:-1], edges[-1], cuts, min_length_s=min_length_s, max_length_s=max_length_s)
    check_partition(parts, edges, min_length_s)
    assert all(part.score is None or part.score == cuts[part.start] for part in parts)


@given(data=st.data(), edges=cfr, min_length_s=st.floats(0.5, 4), factor=st.floats(2.9, 10))
def test_scenes_of_a_constant_rate_are_never_longer_than_the_maximum(data, edges, min_length_s, factor):
    cuts = data.draw(st.dictionaries(st.integers(1, max(1, len(edges) - 2)), st.floats(27, 255), max_size=40))
    max_length_s = min_length_s * factor
    parts = scene_parts(edges[:-1], edges[-1], cuts, min_length_s=min_length_s, max_length_s=max_length_s)
    assert max(seconds(parts, edges)) <= max_length_s + 1e-6


def at_25(n_frames: int) -> tuple[list[float], float]:
    return [i / 25 for i in range(n_frames)], n_frames / 25


@pytest.mark.parametrize(
    ("n_frames", "expected"),
    [
        (250, [(0, 249)]),  # 10 s
        (251, [(0, 250)]),  # a rest of one frame joins the clip before it
        (299, [(0, 298)]),
        (300, [(0, 249), (250, 299)]),  # a rest of the minimum is a clip of its own
        (500, [(0, 249), (250, 499)]),
        (549, [(0, 249), (250, 548)]),
        (3, [(0, 2)]),
        (1, [(0, 0)]),
    ],
)
def test_a_rest_below_the_minimum_joins_its_neighbour(n_frames, expected):
    times_s, end_s = at_25(n_frames)
    assert ranges(stride_parts(times_s, end_s, length_s=10, min_length_s=2)) == expected


def test_a_stride_counts_seconds_and_not_frames():
    slow, fast = [i / 10 for i in range(100)], [10 + i / 50 for i in range(500)]
    assert ranges(stride_parts([*slow, *fast], 20.0, length_s=10, min_length_s=2)) == [(0, 99), (100, 599)]


def test_a_hole_in_the_times_makes_no_empty_clip():
    times_s = [*(i / 25 for i in range(250)), *(45 + i / 25 for i in range(125))]
    assert ranges(stride_parts(times_s, 50.0, length_s=10, min_length_s=2)) == [(0, 249), (250, 374)]


def test_a_flash_joins_the_scene_that_it_is_more_like():
    times_s, end_s = at_25(500)
    for before, after, expected in ((90.0, 30.0, (0, 249)), (30.0, 90.0, (0, 259))):
        [first, second] = scene_parts(times_s, end_s, {250: before, 260: after}, min_length_s=2, max_length_s=60)
        assert (first.start, first.end) == expected
        assert (first.score, second.score) == (None, 90.0)


def test_a_long_scene_is_cut_evenly_and_says_that_no_scene_begins_there():
    times_s, end_s = at_25(2000)  # 80 s: a scene of 10 s, one of 70 s
    parts = scene_parts(times_s, end_s, {250: 40.0}, min_length_s=2, max_length_s=30)
    assert ranges(parts) == [(0, 249), (250, 832), (833, 1415), (1416, 1999)]
    assert [part.score for part in parts] == [None, 40.0, None, None]
    assert max(seconds(parts, [*times_s, end_s])) < 23.5


def test_a_scene_of_the_maximum_is_left_whole_and_twice_the_maximum_is_cut_in_two():
    times_s, end_s = at_25(3000)
    assert ranges(scene_parts(times_s, end_s, {1500: 50.0}, min_length_s=2, max_length_s=60)) == [
        (0, 1499),
        (1500, 2999),
    ]
    assert ranges(scene_parts(times_s, end_s, {}, min_length_s=2, max_length_s=60)) == [(0, 1499), (1500, 2999)]


def test_a_strobe_becomes_clips_of_the_minimum_and_more():
    times_s, end_s = at_25(1000)
    cuts = dict.fromkeys(range(1, 1000), 100.0)
    parts = scene_parts(times_s, end_s, cuts, min_length_s=2, max_length_s=60)
    assert all(2 <= length < 6 for length in seconds(parts, [*times_s, end_s]))


def test_a_long_strobe_is_split_in_less_than_a_few_seconds():
    n = 200_000
    times_s = [i / 25 for i in range(n)]
    parts = scene_parts(times_s, n / 25, dict.fromkeys(range(1, n), 100.0), min_length_s=2, max_length_s=60)
    assert len(parts) > 1000


def test_the_facts_of_a_part_are_its_own(tmp_path):
    """25 frames a second up to frame 50, 10 a second from there on: uneven as a whole, even in parts."""
    pts = [*range(0, 100, 2), *(100 + 5 * i for i in range(30))]
    facts = probe_clip(make_film(tmp_path / "f.mp4", 80, pts=pts, time_base=Fraction(1, 50)))
    assert facts.is_vfr
    first, second = part_facts(facts, Part(0, 49)), part_facts(facts, Part(50, 79, 33.0))
    assert (first.n_frames, first.start_s, first.end_s, first.is_vfr) == (50, 0.0, 2.0, False)
    assert (second.n_frames, second.start_s, second.end_s, second.is_vfr) == (30, 2.0, facts.duration_s, False)
    assert (first.fps, second.fps) == pytest.approx((25, 10))
    assert second.first_pts_s == pytest.approx(facts.first_pts_s + 2.0)
    assert part_facts(facts, Part(40, 59)).is_vfr
