import io

import av
import numpy as np
import pytest
import simplejpeg
from hypothesis import given
from hypothesis import strategies as st

from caption_assets.engines.protocol import PackedFrames
from caption_assets.video.preview import PreviewRule, check_preview, choose_frames, make_preview


def packed(times_s, height=288, width=512):
    rng = np.random.default_rng(1)
    jpegs = [
        simplejpeg.encode_jpeg(
            np.kron(rng.integers(0, 255, (9, 16, 3)), np.ones((32, 32, 1))).astype(np.uint8)[:height, :width]
        )
        for _ in times_s
    ]
    return PackedFrames(jpegs, times_s, width, height)


def durations_ms(data):
    """Display times as the file has them (WebP container specification, ANMF)."""
    found, position = [], 12
    while position < len(data):
        size = int.from_bytes(data[position + 4 : position + 8], "little")
        if data[position : position + 4] == b"ANMF":
            found.append(int.from_bytes(data[position + 20 : position + 23], "little"))
        position += 8 + size + (size & 1)
    return found


def loops(data):
    at = data.index(b"ANIM") + 8
    return int.from_bytes(data[at + 4 : at + 6], "little")


def test_a_window_becomes_an_endless_animation_with_true_times():
    times = [2.0, 2.5, 3.1, 3.5, 4.2, 4.5]
    preview = make_preview(packed(times), 2.0, 4.7, PreviewRule())
    assert preview.n_frames == 3
    assert durations_ms(preview.data) == [1100, 1100, 500]
    assert loops(preview.data) == 0
    assert check_preview(preview.data) == (preview.width, preview.height, 3) == (427, 240, 3)
    assert preview.warnings == ()


@pytest.mark.parametrize("end_s", [0.04, 0.1, 0.3])
def test_a_window_shorter_than_one_step_is_still_a_picture(end_s):
    preview = make_preview(packed([0.0, end_s / 2]), 0.0, end_s, PreviewRule())
    assert preview.n_frames == 1
    assert check_preview(preview.data) == (427, 240, 1)


def test_a_short_window_at_a_high_rate_shows_every_packed_frame_once():
    preview = make_preview(packed([0.0, 0.1, 0.2, 0.3]), 0.0, 0.4, PreviewRule(target_fps=100))
    assert durations_ms(preview.data) == [100, 100, 100, 100]


def test_equal_pictures_still_end_with_the_window():
    one = packed([0.0]).jpegs[0]
    other = packed([0.0, 1.0]).jpegs[1]
    preview = make_preview(PackedFrames([one, one, other, other], [0, 1, 2, 3], 512, 288), 0, 4.0, PreviewRule())
    assert sum(durations_ms(preview.data)) == 4000
    check_preview(preview.data)


def test_a_preview_is_never_larger_than_its_source():
    preview = make_preview(packed([0.0, 1.0]), 0, 2, PreviewRule(), source_width=160, source_height=90, source_fps=0.5)
    assert (preview.width, preview.height) == (160, 90)
    assert len(preview.warnings) == 2
    assert "target_fps" in preview.warnings[0]
    assert "target_height" in preview.warnings[1]


def test_the_shape_is_that_of_the_source():
    preview = make_preview(
        packed([0.0, 1.0]), 0, 2, PreviewRule(target_height=101), source_width=1000, source_height=500
    )
    assert (preview.width, preview.height) == (202, 101)


def test_colours_survive():
    picture = np.full((288, 512, 3), (200, 60, 40), np.uint8)
    frames = PackedFrames([simplejpeg.encode_jpeg(picture, quality=95)], [0.0], 512, 288)
    preview = make_preview(frames, 0, 1, PreviewRule(quality=90))
    with av.open(io.BytesIO(preview.data)) as container:
        shown = next(container.decode(video=0)).to_ndarray(format="rgb24")
    assert np.abs(shown[100, 100].astype(int) - (200, 60, 40)).max() <= 6


@given(st.lists(st.floats(0.001, 3), min_size=1, max_size=60), st.floats(0.05, 30))
def test_chosen_frames_are_distinct_ascending_and_begin_with_the_first(steps, target_fps):
    times = np.concatenate([[0.0], np.cumsum(steps)]).tolist()
    chosen = choose_frames(times, 0.0, times[-1] + 0.04, target_fps)
    assert chosen[0] == 0
    assert chosen == sorted(set(chosen))


def test_a_grid_at_the_rate_of_the_frames_takes_them_all():
    assert choose_frames([0.0, 0.5, 1.0, 1.5], 0.0, 2.0, 2.0) == [0, 1, 2, 3]


@pytest.mark.parametrize("spoil", [lambda d: d[:8], lambda d: d[:-40], lambda d: b"", lambda d: b"text" * 50])
def test_a_broken_preview_is_found_out(spoil):
    data = make_preview(packed([0.0, 1.0, 2.0]), 0, 3, PreviewRule()).data
    with pytest.raises(ValueError, match="preview"):
        check_preview(spoil(data))


def test_an_animation_with_a_spoilt_frame_is_found_out():
    data = bytearray(make_preview(packed([0.0, 1.0, 2.0]), 0, 3, PreviewRule()).data)
    at = data.rindex(b"VP8 ") + 8
    data[at : at + 10] = bytes(10)
    with pytest.raises(ValueError, match="does not decode"):
        check_preview(bytes(data))


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("target_fps", 0, "above 0"),
        ("target_height", 15, "16 or more"),
        ("quality", 101, "0 to 100"),
        ("quality", -1, "0 to 100"),
        ("compression_level", 7, "0 to 6"),
    ],
)
def test_a_wrong_setting_is_refused_with_its_range(field, value, allowed):
    with pytest.raises(ValueError, match=allowed):
        PreviewRule(**{field: value})
