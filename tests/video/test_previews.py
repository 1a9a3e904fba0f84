import io

import av
import numpy as np
import polars as pl
import pytest
import simplejpeg
from hypothesis import given
from hypothesis import strategies as st

from caption_assets.ids import WindowId
from caption_assets.settings.groups import PreviewSettings
from caption_assets.video.frame_store import FramesUnavailable
from caption_assets.video.pack import _pack_schema
from caption_assets.video.packed_frames import PackedFrames
from caption_assets.video.previews import (
    PreviewJob,
    choose_frames,
    make_preview,
    remove_leftovers,
    write_preview,
)
from caption_assets.video.webp import check_webp


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


def flat(value, height=288, width=512):
    return simplejpeg.encode_jpeg(np.full((height, width, 3), value, np.uint8))


def rgb_of(jpeg):
    return simplejpeg.decode_jpeg(jpeg)


def test_a_window_becomes_an_endless_animation_with_true_times():
    times = [2.0, 2.5, 3.1, 3.5, 4.2, 4.5]
    preview = make_preview(packed(times), 2.0, 4.7, PreviewSettings())
    assert preview.n_frames == 3
    assert durations_ms(preview.data) == [1100, 1100, 500]
    assert loops(preview.data) == 0
    assert check_webp(preview.data) == (preview.width, preview.height, 3) == (427, 240, 3)
    assert preview.warnings == ()


@pytest.mark.parametrize("end_s", [0.04, 0.1, 0.3])
def test_a_window_shorter_than_one_step_is_still_a_picture(end_s):
    preview = make_preview(packed([0.0, end_s / 2]), 0.0, end_s, PreviewSettings())
    assert preview.n_frames == 1
    assert check_webp(preview.data) == (427, 240, 1)


def test_pictures_less_than_a_millisecond_apart_do_not_collide():
    preview = make_preview(packed([0.0, 0.0002, 0.0004, 0.5]), 0, 1, PreviewSettings.model_construct(target_fps=5000))
    assert check_webp(preview.data)[2] == 4


def test_a_short_window_at_a_high_rate_shows_every_packed_frame_once():
    preview = make_preview(packed([0.0, 0.1, 0.2, 0.3]), 0.0, 0.4, PreviewSettings.model_construct(target_fps=100))
    assert durations_ms(preview.data) == [100, 100, 100, 100]


def test_equal_pictures_still_end_with_the_window():
    one = packed([0.0]).jpegs[0]
    other = packed([0.0, 1.0]).jpegs[1]
    preview = make_preview(PackedFrames([one, one, other, other], [0, 1, 2, 3], 512, 288), 0, 4.0, PreviewSettings())
    assert sum(durations_ms(preview.data)) == 4000
    check_webp(preview.data)


def test_a_preview_is_never_larger_than_its_source():
    preview = make_preview(
        packed([0.0, 1.0]), 0, 2, PreviewSettings(), source_width=160, source_height=90, source_fps=0.5
    )
    assert (preview.width, preview.height) == (160, 90)
    assert len(preview.warnings) == 2
    assert "target_fps" in preview.warnings[0]
    assert "target_height" in preview.warnings[1]


@pytest.mark.parametrize(
    ("width", "height"),
    [(1, 1), (1, 240), (240, 1), (2, 2), (3, 3), (3, 400), (5, 5), (33, 17), (9, 16_000), (16_000, 9), (20_000, 300)],
)
def test_no_shape_is_upscaled_or_refused(width, height):
    frames = packed([0.0, 1.0], *(224, 224) if width < 1000 else (32, 512))
    preview = make_preview(frames, 0, 2, PreviewSettings(), source_width=width, source_height=height, source_fps=30)
    assert check_webp(preview.data) == (preview.width, preview.height, preview.n_frames)
    assert preview.width <= width
    assert preview.height <= min(height, 240)
    assert rgb_of(preview.poster).shape == (preview.height, preview.width, 3)


def test_the_shape_is_that_of_the_source():
    preview = make_preview(
        packed([0.0, 1.0]), 0, 2, PreviewSettings(target_height=101), source_width=1000, source_height=500
    )
    assert (preview.width, preview.height) == (202, 101)


def test_colours_survive():
    picture = np.full((288, 512, 3), (200, 60, 40), np.uint8)
    frames = PackedFrames([simplejpeg.encode_jpeg(picture, quality=95)], [0.0], 512, 288)
    preview = make_preview(frames, 0, 1, PreviewSettings(quality=90))
    with av.open(io.BytesIO(preview.data)) as container:
        shown = next(container.decode(video=0)).to_ndarray(format="rgb24")
    assert np.abs(shown[100, 100].astype(int) - (200, 60, 40)).max() <= 6


def test_a_higher_quality_takes_more_bytes():
    frames = packed([0.0, 1.0, 2.0])
    made = [make_preview(frames, 0, 3, PreviewSettings(quality=quality)).data for quality in (0, 50, 100)]
    assert len(made[0]) < len(made[1]) < len(made[2])


def test_the_encoder_takes_every_level():
    for level in range(7):
        check_webp(make_preview(packed([0.0]), 0, 1, PreviewSettings(compression_level=level)).data)


def test_the_same_frames_give_the_same_bytes():
    one, other = (make_preview(packed([0.0, 1.0, 2.0]), 0, 3, PreviewSettings()) for _ in range(2))
    assert (one.data, one.poster) == (other.data, other.poster)


def test_the_poster_is_the_picture_in_the_middle_as_large_as_the_preview():
    frames = packed([0.0, 1.0, 2.0, 3.0, 4.0])
    preview = make_preview(frames, 0, 5, PreviewSettings())
    alone = make_preview(PackedFrames([frames.jpegs[2]], [0.0], 512, 288), 0, 1, PreviewSettings())
    assert rgb_of(preview.poster).shape == (preview.height, preview.width, 3)
    assert preview.poster == alone.poster


@pytest.mark.parametrize("value", [0, 16, 128, 255])
def test_the_poster_is_not_a_picture_of_nothing(value):
    good = packed([0.0]).jpegs[0]
    frames = PackedFrames([flat(value), flat(value), flat(value), good, flat(value)], [0, 1, 2, 3, 4], 512, 288)
    assert rgb_of(make_preview(frames, 0, 5, PreviewSettings()).poster).std() > 30


def test_a_window_of_nothing_has_a_poster_all_the_same():
    frames = PackedFrames([flat(0), flat(255)], [0, 1], 512, 288)
    assert rgb_of(make_preview(frames, 0, 2, PreviewSettings()).poster).shape == (240, 427, 3)


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
    data = make_preview(packed([0.0, 1.0, 2.0]), 0, 3, PreviewSettings()).data
    with pytest.raises(ValueError, match="preview"):
        check_webp(spoil(data))


def test_a_still_preview_that_is_spoilt_is_found_out():
    data = make_preview(packed([0.0]), 0, 1, PreviewSettings()).data
    for spoilt in (data[:-40], data[:12], data[:30] + bytes(10) + data[40:60]):
        with pytest.raises(ValueError, match="preview"):
            check_webp(spoilt)


def test_an_animation_with_a_spoilt_frame_is_found_out():
    data = bytearray(make_preview(packed([0.0, 1.0, 2.0]), 0, 3, PreviewSettings()).data)
    at = data.rindex(b"VP8 ") + 8
    data[at : at + 10] = bytes(10)
    with pytest.raises(ValueError, match="does not decode"):
        check_webp(bytes(data))


@pytest.fixture
def job(tmp_path):
    frames = packed([0.0, 1.0, 2.0])
    row = {"window_id": "w", "pack_id": "p", "width": 512, "height": 288, "frame_indices": [0, 25, 50]}
    pack = tmp_path / "w.p.parquet"
    columns = {
        name: [value] for name, value in (row | {"frame_times_s": frames.times_s, "jpegs": frames.jpegs}).items()
    }
    pl.DataFrame(columns, schema=_pack_schema()).write_parquet(pack)
    return PreviewJob(WindowId("w"), pack, tmp_path / "previews", 0.0, 3.0, PreviewSettings(), 25.0, 1920, 1080)


def test_a_job_writes_the_preview_and_its_poster_and_nothing_else(job):
    files = write_preview(job)
    assert sorted(path.name for path in job.folder.iterdir()) == ["w.jpg", "w.webp"]
    assert check_webp((job.folder / "w.webp").read_bytes()) == (files.width, files.height, files.n_frames)
    sizes = [(job.folder / name).stat().st_size for name in ("w.webp", "w.jpg")]
    assert sizes == [files.bytes, files.poster_bytes]


def test_a_damaged_pack_is_an_error_and_leaves_no_files(job):
    job.pack.write_bytes(job.pack.read_bytes()[:-100])
    with pytest.raises(FramesUnavailable, match="cannot be read"):
        write_preview(job)
    assert not job.folder.exists()


def test_a_rename_that_fails_leaves_no_temporary_file(job):
    (job.folder / "w.webp").mkdir(parents=True)
    with pytest.raises(OSError):
        write_preview(job)
    assert sorted(path.name for path in job.folder.iterdir()) == ["w.jpg", "w.webp"]


def test_leftovers_of_a_killed_run_and_replaced_earlier_formats_are_removed(job):
    write_preview(job)
    for name in (".w.webp.4711.tmp", "w.avif", "w.mp4", "x.mp4", "x.jpg"):
        (job.folder / name).write_bytes(b"")
    remove_leftovers(job.folder)
    # x has no WebP yet: its MP4 is still what another batch shows
    assert sorted(path.name for path in job.folder.iterdir()) == ["w.jpg", "w.webp", "x.jpg", "x.mp4"]
    remove_leftovers(job.folder / "none")
