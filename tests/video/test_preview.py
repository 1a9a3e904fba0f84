import io
from typing import get_args

import av
import numpy as np
import pytest
import simplejpeg
from hypothesis import given
from hypothesis import strategies as st

from caption_assets.engines.protocol import PackedFrames
from caption_assets.settings.groups import PreviewSettings
from caption_assets.video.preview import check_preview, choose_frames, make_preview
from caption_assets.video.preview_format import FORMATS, encoder_options, format_of, writable_formats

EVERY_FORMAT = pytest.mark.parametrize("form", list(FORMATS))
ISO = pytest.mark.parametrize("form", ["avif", "mp4"])


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


def pictures(data):
    """The pictures of an AVIF or MP4 preview as (start, duration, rgb), times in seconds."""
    with av.open(io.BytesIO(data)) as container:
        film = max(container.streams.video, key=lambda stream: stream.frames)
        return [
            (
                float(frame.pts * frame.time_base),
                float(frame.duration * frame.time_base),
                frame.to_ndarray(format="rgb24"),
            )
            for frame in container.decode(film)
        ]


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
    assert check_preview(preview.data) == (preview.width, preview.height, 3) == (427, 240, 3)
    assert preview.warnings == ()


@ISO
def test_other_formats_have_true_times_too(form):
    times = [2.0, 2.5, 3.1, 3.5, 4.2, 4.5]
    preview = make_preview(packed(times), 2.0, 4.7, PreviewSettings(preview_format=form))
    shown = [(round(start, 6), round(duration, 6)) for start, duration, _ in pictures(preview.data)]
    assert shown == [(0.0, 1.1), (1.1, 1.1), (2.2, 0.5)]
    assert check_preview(preview.data) == (preview.width, preview.height, preview.n_frames)
    assert (preview.height, preview.n_frames, preview.warnings) == (240, 3, ())


def test_an_avif_plays_for_ever():
    data = make_preview(packed([0.0, 1.0]), 0, 2, PreviewSettings(preview_format="avif")).data
    at = data.index(b"elst") + 4
    assert int.from_bytes(data[at : at + 4], "big") & 1  # the repeat flag of the edit list (ISO/IEC 14496-12, 8.6.6)


def test_an_mp4_is_h264_for_browsers_with_its_index_first_and_no_sound():
    data = make_preview(packed([0.0, 1.0]), 0, 2, PreviewSettings(preview_format="mp4")).data
    assert data.index(b"moov") < data.index(b"mdat")
    with av.open(io.BytesIO(data)) as container:
        [stream] = container.streams
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (stream.codec_context.profile, stream.codec_context.has_b_frames) == ("High", False)


@EVERY_FORMAT
@pytest.mark.parametrize("end_s", [0.04, 0.1, 0.3])
def test_a_window_shorter_than_one_step_is_still_a_picture(end_s, form):
    preview = make_preview(packed([0.0, end_s / 2]), 0.0, end_s, PreviewSettings(preview_format=form))
    assert preview.n_frames == 1
    assert check_preview(preview.data) == (426 if form == "mp4" else 427, 240, 1)


def test_an_mp4_of_one_picture_lasts_as_long_as_its_window():
    [(start, duration, _)] = pictures(make_preview(packed([0.0]), 0.0, 0.1, PreviewSettings(preview_format="mp4")).data)
    assert (start, duration) == (0.0, pytest.approx(0.1))


@EVERY_FORMAT
def test_pictures_less_than_a_millisecond_apart_do_not_collide(form):
    preview = make_preview(
        packed([0.0, 0.0002, 0.0004, 0.5]), 0, 1, PreviewSettings.model_construct(preview_format=form, target_fps=5000)
    )
    assert check_preview(preview.data)[2] == 4


def test_a_short_window_at_a_high_rate_shows_every_packed_frame_once():
    preview = make_preview(packed([0.0, 0.1, 0.2, 0.3]), 0.0, 0.4, PreviewSettings.model_construct(target_fps=100))
    assert durations_ms(preview.data) == [100, 100, 100, 100]


def test_equal_pictures_still_end_with_the_window():
    one = packed([0.0]).jpegs[0]
    other = packed([0.0, 1.0]).jpegs[1]
    preview = make_preview(PackedFrames([one, one, other, other], [0, 1, 2, 3], 512, 288), 0, 4.0, PreviewSettings())
    assert sum(durations_ms(preview.data)) == 4000
    check_preview(preview.data)


def test_a_preview_is_never_larger_than_its_source():
    preview = make_preview(
        packed([0.0, 1.0]), 0, 2, PreviewSettings(), source_width=160, source_height=90, source_fps=0.5
    )
    assert (preview.width, preview.height) == (160, 90)
    assert len(preview.warnings) == 2
    assert "target_fps" in preview.warnings[0]
    assert "target_height" in preview.warnings[1]


@EVERY_FORMAT
@pytest.mark.parametrize(
    ("width", "height"),
    [(1, 1), (1, 240), (240, 1), (2, 2), (3, 3), (3, 400), (5, 5), (33, 17), (9, 16_000), (16_000, 9), (20_000, 300)],
)
def test_no_shape_is_upscaled_or_refused(form, width, height):
    frames = packed([0.0, 1.0], *(224, 224) if width < 1000 else (32, 512))
    preview = make_preview(
        frames, 0, 2, PreviewSettings(preview_format=form), source_width=width, source_height=height, source_fps=30
    )
    assert check_preview(preview.data) == (preview.width, preview.height, preview.n_frames)
    assert preview.width <= width
    assert preview.height <= min(height, 240)
    assert rgb_of(preview.poster).shape == (preview.height, preview.width, 3)
    too_small = min(width, height) < FORMATS[form].min_side
    assert preview.format is FORMATS["webp" if too_small else form]
    assert any("written as webp" in warning for warning in preview.warnings) is too_small
    if preview.format.name == "mp4":
        assert preview.width % 2 == preview.height % 2 == 0


def test_the_shape_is_that_of_the_source():
    preview = make_preview(
        packed([0.0, 1.0]), 0, 2, PreviewSettings(target_height=101), source_width=1000, source_height=500
    )
    assert (preview.width, preview.height) == (202, 101)


@EVERY_FORMAT
def test_colours_survive(form):
    picture = np.full((288, 512, 3), (200, 60, 40), np.uint8)
    frames = PackedFrames([simplejpeg.encode_jpeg(picture, quality=95)], [0.0], 512, 288)
    preview = make_preview(frames, 0, 1, PreviewSettings(quality=90, preview_format=form))
    with av.open(io.BytesIO(preview.data)) as container:
        shown = next(container.decode(video=0)).to_ndarray(format="rgb24")
    assert np.abs(shown[100, 100].astype(int) - (200, 60, 40)).max() <= 6


@ISO
def test_the_file_says_how_its_colours_are_meant(form):
    data = make_preview(packed([0.0, 1.0]), 0, 2, PreviewSettings(preview_format=form)).data
    at = data.index(b"colrnclx") + 8
    primaries, transfer, matrix = (int.from_bytes(data[at + 2 * i : at + 2 * i + 2], "big") for i in range(3))
    assert (primaries, transfer, matrix) == (1, 13, 6)  # BT.709, sRGB, BT.601 (ISO/IEC 23091-2)
    assert data[at + 6] >> 7 == 0  # limited range


@EVERY_FORMAT
def test_a_higher_quality_is_nearer_to_the_pictures_and_takes_more_bytes(form):
    frames = packed([0.0, 1.0, 2.0])
    made = [
        make_preview(frames, 0, 3, PreviewSettings(preview_format=form, quality=quality)).data
        for quality in (0, 50, 100)
    ]
    assert len(made[0]) < len(made[1]) < len(made[2])
    if form != "webp":
        wanted = rgb_of(frames.jpegs[1])
        errors = []
        for data in made:
            shown = pictures(data)[1][2].astype(int)
            small = wanted[:: 288 // 9][:, :: 512 // 16][:9, :16]  # the blocks that `packed` draws are flat
            rows, columns = (np.arange(9) + 0.5) * shown.shape[0] / 9, (np.arange(16) + 0.5) * shown.shape[1] / 16
            errors.append(np.abs(shown[rows.astype(int)][:, columns.astype(int)] - small).mean())
        assert errors[2] <= errors[1] < errors[0]


def test_quality_and_level_cover_the_scale_of_each_encoder():
    assert [encoder_options("avif", quality, 4)["crf"] for quality in (0, 50, 100)] == ["63", "32", "1"]
    assert [encoder_options("mp4", quality, 4)["crf"] for quality in (0, 50, 100)] == ["51", "32", "14"]
    assert [encoder_options("avif", 50, level)["preset"] for level in (0, 4, 6)] == ["12", "8", "6"]
    assert [encoder_options("mp4", 50, level)["preset"] for level in (0, 4, 6)] == ["ultrafast", "medium", "slower"]
    for form in FORMATS:  # every level is one that the encoder takes
        for level in range(7):
            check_preview(
                make_preview(packed([0.0]), 0, 1, PreviewSettings(preview_format=form, compression_level=level)).data
            )


@EVERY_FORMAT
def test_the_same_frames_give_the_same_bytes(form):
    one, other = (make_preview(packed([0.0, 1.0, 2.0]), 0, 3, PreviewSettings(preview_format=form)) for _ in range(2))
    assert (one.data, one.poster) == (other.data, other.poster)


@EVERY_FORMAT
def test_the_poster_is_the_picture_in_the_middle_as_large_as_the_preview(form):
    frames = packed([0.0, 1.0, 2.0, 3.0, 4.0])
    preview = make_preview(frames, 0, 5, PreviewSettings(preview_format=form))
    alone = make_preview(PackedFrames([frames.jpegs[2]], [0.0], 512, 288), 0, 1, PreviewSettings(preview_format=form))
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


@EVERY_FORMAT
@pytest.mark.parametrize("spoil", [lambda d: d[:8], lambda d: d[:-40], lambda d: b"", lambda d: b"text" * 50])
def test_a_broken_preview_is_found_out(spoil, form):
    data = make_preview(packed([0.0, 1.0, 2.0]), 0, 3, PreviewSettings(preview_format=form)).data
    with pytest.raises(ValueError, match="preview"):
        check_preview(spoil(data))


@ISO
def test_spoilt_pictures_are_found_out(form):
    data = bytearray(make_preview(packed([0.0, 1.0, 2.0]), 0, 3, PreviewSettings(preview_format=form)).data)
    at = data.rindex(b"mdat") + 4
    middle = at + (len(data) - at) // 2
    data[middle : middle + 200] = bytes(200)
    with pytest.raises(ValueError, match="preview"):
        check_preview(bytes(data))


def test_an_mp4_without_its_index_is_found_out():
    data = make_preview(packed([0.0, 1.0, 2.0]), 0, 3, PreviewSettings(preview_format="mp4")).data
    with pytest.raises(ValueError, match="preview"):
        check_preview(data.replace(b"moov", b"none"))


def test_an_animation_with_a_spoilt_frame_is_found_out():
    data = bytearray(make_preview(packed([0.0, 1.0, 2.0]), 0, 3, PreviewSettings()).data)
    at = data.rindex(b"VP8 ") + 8
    data[at : at + 10] = bytes(10)
    with pytest.raises(ValueError, match="does not decode"):
        check_preview(bytes(data))


def test_a_format_without_an_encoder_is_refused_with_those_that_there_are(monkeypatch):
    monkeypatch.setattr(av, "codecs_available", av.codecs_available - {"libsvtav1"})
    assert writable_formats() == ["webp", "mp4"]
    with pytest.raises(ValueError, match=r"avif, which needs the encoder libsvtav1, .* can write: webp, mp4"):
        make_preview(packed([0.0]), 0, 1, PreviewSettings(preview_format="avif"))
    make_preview(packed([0.0]), 0, 1, PreviewSettings(preview_format="mp4"))


def test_the_settings_know_the_formats_that_there_are():
    assert tuple(FORMATS) == get_args(PreviewSettings.model_fields["preview_format"].annotation)
    assert [format_of(f"previews/a.b/w{form.suffix}") for form in FORMATS.values()] == list(FORMATS.values())
    assert format_of("previews/b/w.jpg") is None
