"""Pictures against ffmpeg's own: its filters through the library, and the `ffmpeg` program where there is one.

Bounds are decibels of PSNR over all components at the sizes models see. The references are made with ffmpeg's exact
flags (full chroma interpolation, accurate rounding); ours without, for a third of the time, and that costs most at
places of strong colour: 36 dB is what 4:2:0 gives, 51 dB what 4:4:4 does.
"""

import functools
import shutil
import subprocess
from fractions import Fraction

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Interpolation

from caption_assets.video import tone
from caption_assets.video.decode import decode_frames
from caption_assets.video.probe import probe_clip
from caption_assets.video.to_rgb import UprightScaler
from tests.video.films import CLIPS, HEIGHT, WIDTH, encode, filtered, make_film, number_of, psnr

EXACT = Interpolation.BICUBIC | Interpolation.FULL_CHR_H_INT | Interpolation.ACCURATE_RND
EXACT_FLAGS = "flags=area+accurate_rnd+full_chroma_int"
SIZES = [(192, 320), (352, 640)]
FFMPEG = shutil.which("ffmpeg")


@functools.cache
def originals(n=6, width=640, height=352):
    """RGB pictures of a real film, in strong colours and in motion."""
    with av.open(str(CLIPS / "bigbuckbunny.mp4")) as container:
        frames = [frame for _, frame in zip(range(n), container.decode(video=0), strict=False)]
    return [frame.reformat(width, height, format="rgb24", interpolation=EXACT).to_ndarray() for frame in frames]


def as_frame(rgb, pix_fmt, matrix=2, color_range=1):
    frame = av.VideoFrame.from_ndarray(rgb, format="rgb48le" if rgb.dtype == np.uint16 else "rgb24")
    return frame.reformat(
        format=pix_fmt,
        dst_colorspace={2: 5, 6: 5}.get(matrix, matrix),
        src_color_range=ColorRange.JPEG,
        dst_color_range=color_range,
        interpolation=EXACT,
    )


def decoded(film, index=1):
    facts = probe_clip(film)
    [(_, frame)] = decode_frames(film, facts, [index])
    return facts, frame


def reference(frame, height, width, *filters):
    return filtered(frame, *filters, f"scale={width}:{height}:{EXACT_FLAGS}", "format=rgb24").to_ndarray()


def area_scaled(rgb, height, width):
    return av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(width, height, interpolation="AREA").to_ndarray()


# Without B-frames: of a film with fewer frames than they delay, x265 leaves the decode times uninitialised, and a muxer
# refuses the packets now and then.
X265 = {"x265-params": "log-level=error:pools=1:bframes=0", "crf": "10"}
FORMATS = [
    ("h264.mp4", "libx264", "yuv420p", {"crf": "10"}, 36),
    ("h264_422.mp4", "libx264", "yuv422p", {"crf": "10"}, 38),
    ("h264_444.mp4", "libx264", "yuv444p", {"crf": "10"}, 50),
    ("h264_10.mp4", "libx264", "yuv420p10le", {"crf": "10"}, 36),
    ("hevc_10.mkv", "libx265", "yuv420p10le", X265, 36),
    ("vp9.webm", "libvpx-vp9", "yuv420p", {"cpu-used": "8", "crf": "10", "b": "0"}, 36),
    ("ffv1_12.mkv", "ffv1", "yuv420p12le", {}, 36),
    ("mpeg2.ts", "mpeg2video", "yuv420p", {"b": "8M"}, 36),
    ("prores.mov", "prores_ks", "yuv422p10le", {}, 38),
    ("ffv1_440.mkv", "ffv1", "yuv440p", {}, 35),
    ("nv12.mkv", "rawvideo", "nv12", {}, 36),
    ("uyvy.mkv", "rawvideo", "uyvy422", {}, 38),
]
COLOURS = [(0, 2), (1, 1), (2, 1), (1, 5), (1, 6), (2, 6), (1, 7), (1, 9)]


@pytest.mark.parametrize(("color_range", "matrix"), COLOURS)
@pytest.mark.parametrize(("name", "codec", "pix_fmt", "options", "bound"), FORMATS, ids=[f[0] for f in FORMATS])
def test_every_format_matrix_and_range_is_that_of_ffmpeg(
    tmp_path, name, codec, pix_fmt, options, bound, color_range, matrix
):
    if codec in ("mpeg2video", "prores_ks") and color_range == 2:
        pytest.skip(f"{codec} does not store full range")
    frames = [as_frame(rgb, pix_fmt, matrix, color_range or 1) for rgb in originals()[:2]]
    film = encode(tmp_path / name, frames, codec, pix_fmt, options=options, color_range=color_range, matrix=matrix)
    facts, frame = decoded(film)
    scaler = UprightScaler(facts)
    for height, width in SIZES:
        picture = scaler.rgb(frame, height, width)
        assert psnr(picture, reference(frame, height, width)) >= bound
        # And the true colours, at what the codec leaves of them: a matrix or range read wrong is under 29 dB.
        assert psnr(picture, area_scaled(originals()[1], height, width)) >= 32


@pytest.mark.parametrize("pix_fmt", ["bgr0", "gbrp10le"])
def test_rgb_stays_rgb(tmp_path, pix_fmt):
    frames = [as_frame(rgb, pix_fmt, color_range=2) for rgb in originals()[:2]]
    facts, frame = decoded(encode(tmp_path / "rgb.mkv", frames, "ffv1", pix_fmt, matrix=0))
    for height, width in SIZES:
        picture = UprightScaler(facts).rgb(frame, height, width)
        assert psnr(picture, area_scaled(originals()[1], height, width)) >= 60


@pytest.mark.parametrize("pix_fmt", ["gray", "gray10le"])
@pytest.mark.parametrize("color_range", [1, 2])
def test_gray_keeps_its_brightness(tmp_path, pix_fmt, color_range):
    luma = np.round(originals()[1] @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)
    gray = np.repeat(luma[..., None], 3, axis=2)
    coded = as_frame(gray, pix_fmt, color_range=2)
    if color_range == 1:
        top = 255 if pix_fmt == "gray" else 1023
        values = coded.to_ndarray() * (219 / 255) + 16 * top / 255
        coded = av.VideoFrame.from_ndarray(np.round(values).astype(coded.to_ndarray().dtype), format=pix_fmt)
    coded.color_range = color_range
    picture = UprightScaler(probe_clip(CLIPS / "ocean.mp4")).rgb(coded, 192, 320)
    assert psnr(picture, area_scaled(gray, 192, 320)) >= 45


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv444p10le", "nv12", "yuva420p", "gray", "gbrp"])
@pytest.mark.parametrize("transfer", [1, 16])
@pytest.mark.parametrize("interlaced", [False, True])
def test_no_matrix_of_a_file_stops_the_scaler(pix_fmt, transfer, interlaced):
    scaler = UprightScaler(probe_clip(CLIPS / "ocean.mp4"))
    frame = as_frame(originals()[0], pix_fmt)
    if interlaced:
        frame = filtered(frame, "setfield=tff")
        assert frame.interlaced_frame
    for matrix in (*range(18), 255):
        frame.colorspace, frame.color_trc = matrix, transfer
        picture = scaler.rgb(frame, 64, 96)
        assert picture.shape == (64, 96, 3)
        assert picture.std() > 10


@pytest.mark.parametrize(("matrix", "primaries", "read_as"), [(10, 9, 9), (12, 9, 9), (12, 1, 1), (13, 9, 9)])
def test_matrices_the_scaler_refuses_are_read_as_their_nearest(matrix, primaries, read_as):
    frames = [as_frame(originals()[0], "yuv444p", read_as) for _ in range(2)]
    for frame, tag in zip(frames, (read_as, matrix), strict=True):
        frame.colorspace, frame.color_primaries = tag, primaries
    scaler = UprightScaler(probe_clip(CLIPS / "ocean.mp4"))
    assert np.array_equal(scaler.rgb(frames[0], 176, 320), scaler.rgb(frames[1], 176, 320))


def test_a_matrix_that_is_no_ycbcr_is_said(tmp_path):
    frames = [as_frame(rgb, "yuv444p") for rgb in originals()[:2]]
    facts = probe_clip(encode(tmp_path / "odd.mp4", frames, "libx264", "yuv444p", matrix=8))
    assert "unreadable_matrix" in facts.flags
    assert any("ycgco" in note for note in facts.notes)


@pytest.mark.parametrize("rotation", [0, 90, -90, 180])
def test_turned_pictures_come_out_upright(tmp_path, rotation):
    film = make_film(tmp_path / "film.mp4", 4, rotation=rotation, options={"crf": "10"})
    facts = probe_clip(film)
    [(_, frame)] = decode_frames(film, facts, [0])
    upright = UprightScaler(facts).rgb(frame, facts.display_height, facts.display_width)
    expected = np.rot90(frame.to_ndarray(format="rgb24"), rotation // 90)  # both counter-clockwise
    assert upright.shape == expected.shape
    assert np.abs(upright.astype(int) - expected).mean() < 3


@pytest.mark.parametrize(("axis", "rotation", "flip"), [("x", 0, "hflip"), ("y", 180, "vflip")])
def test_a_mirrored_display_matrix_is_honoured(tmp_path, axis, rotation, flip):
    film = mirrored(make_film(tmp_path / "film.mp4", 4, options={"crf": "10"}), axis)
    facts, frame = decoded(film)
    assert (facts.rotation, facts.mirrored) == (rotation, True)
    picture = UprightScaler(facts).rgb(frame, HEIGHT, WIDTH)
    assert psnr(picture, reference(frame, HEIGHT, WIDTH, flip)) >= 33


def test_pixels_of_any_shape_come_out_square(tmp_path):
    film = make_film(tmp_path / "film.mp4", 4, aspect=Fraction(2, 1))
    facts = probe_clip(film)
    assert (facts.display_width, facts.display_height) == (2 * WIDTH, HEIGHT)
    [(_, frame)] = decode_frames(film, facts, [3])
    picture = UprightScaler(facts).rgb(frame, facts.display_height, facts.display_width)
    assert picture.shape == (HEIGHT, 2 * WIDTH, 3)
    assert number_of(picture) == 3


def rgb_of(luma, blue, red, full, kr, kb):
    """ITU-R BT.601 and BT.709, section 3: the RGB of one YCbCr colour."""
    scale_y, scale_c, low = (1, 1, 0) if full else (255 / 219, 255 / 224, 16)
    y, cb, cr = (luma - low) * scale_y, (blue - 128) * scale_c, (red - 128) * scale_c
    r, b = y + 2 * (1 - kr) * cr, y + 2 * (1 - kb) * cb
    return np.clip([r, (y - kr * r - kb * b) / (1 - kr - kb), b], 0, 255)


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuvj420p", "yuv420p10le"])
@pytest.mark.parametrize("color_range", [0, 1, 2])
@pytest.mark.parametrize(("matrix", "kr", "kb"), [(2, 0.299, 0.114), (6, 0.299, 0.114), (1, 0.2126, 0.0722)])
@pytest.mark.parametrize("color", [(16, 128, 128), (235, 128, 128), (120, 90, 180)])
@pytest.mark.parametrize("size", [(112, 140), (240, 320), (480, 640)])
def test_range_and_matrix_decide_the_colour(pix_fmt, color_range, matrix, kr, kb, color, size):
    frame = av.VideoFrame(320, 240, pix_fmt)
    deep = pix_fmt.endswith("10le")
    for plane, value in zip(frame.planes, color, strict=True):
        dtype, scaled = (np.uint16, 4 * value) if deep else (np.uint8, value)
        plane.update(np.full(plane.buffer_size // np.dtype(dtype).itemsize, scaled, dtype).tobytes())
    frame.color_range, frame.colorspace = color_range, matrix
    full = color_range == 2 or pix_fmt == "yuvj420p"
    facts = probe_clip(CLIPS / "ocean.mp4")
    picture = UprightScaler(facts).rgb(frame, *size)
    assert np.abs(picture[50, 50] - rgb_of(*color, full, kr, kb)).max() <= 3


TO_BT2020 = np.linalg.inv([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]])
"""From linear BT.709 (ITU-R BT.2087, the inverse of its matrix)."""


def hdr_frame(rgb, transfer, white_nits):
    """Encode a BT.709 picture as HDR whose white is `white_nits`, with formulas of ITU-R BT.2100 written out here."""
    nits = np.maximum((rgb / 255) ** 2.4 * white_nits @ TO_BT2020.T, 0)
    if transfer == 16:
        power = (nits / 10000) ** 0.1593017578125
        signal = ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375
    else:
        display = nits / 1000
        luminance = np.maximum(display @ np.array([0.2627, 0.6780, 0.0593]), 1e-9)[..., None]
        scene = display * luminance ** (1 / 1.2 - 1)
        log = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
        signal = np.where(scene <= 1 / 12, np.sqrt(3 * scene), log)
    return as_frame(np.round(np.minimum(signal, 1) * 65535).astype(np.uint16), "yuv420p10le", 9)


def hdr_film(path, transfer, white_nits, options=None, codec="libx264"):
    frames = [hdr_frame(rgb, transfer, white_nits) for rgb in originals()[:2]]
    tags = {"color_range": 1, "matrix": 9, "transfer": transfer, "primaries": 9}
    return encode(path, frames, codec, "yuv420p10le", options=options or {"crf": "10"}, **tags)


@pytest.mark.parametrize("transfer", [16, 18])
def test_hdr_below_the_highlights_is_what_ffmpegs_own_colour_management_gives(tmp_path, transfer):
    facts, frame = decoded(hdr_film(tmp_path / "hdr.mp4", transfer, 90))
    picture = UprightScaler(facts).rgb(frame, 192, 320)
    small = frame.reformat(320, 192, interpolation=Interpolation.AREA)
    theirs = small.reformat(
        format="rgb24",
        dst_color_range=ColorRange.JPEG,
        dst_color_trc=1,
        dst_color_primaries=1,
        interpolation=Interpolation.BICUBIC,
    )
    assert psnr(picture, theirs.to_ndarray()) >= 35
    true = np.round(255 * (90 / 203) ** (1 / 2.4) * (originals()[1] / 255)).astype(np.uint8)
    assert psnr(picture, area_scaled(true, 192, 320)) >= 35


@pytest.mark.skipif(FFMPEG is None, reason="the ffmpeg program is not installed")
@pytest.mark.parametrize(("white_nits", "bound"), [(90, 43), (203, 32), (1000, 27)])
def test_pq_is_near_zimg_and_the_mobius_tone_map_of_the_ffmpeg_program(tmp_path, white_nits, bound):
    film = hdr_film(tmp_path / "hdr.mp4", 16, white_nits)
    facts, frame = decoded(film)
    chain = (
        "scale=320:192:flags=area,zscale=t=linear:npl=203,format=gbrpf32le,zscale=p=bt709,tonemap=mobius:desat=0,"
        "zscale=t=bt709:m=bt709:r=tv,format=yuv444p,scale=in_color_matrix=bt709,format=rgb24"
    )
    assert psnr(UprightScaler(facts).rgb(frame, 192, 320), of_program(film, chain, 192, 320)[1]) >= bound


def flat_hdr(nits, transfer=16, matrix=9):
    """A gray picture of so many cd/m2."""
    frame = hdr_frame(np.full((64, 64, 3), 255, np.uint8), transfer, nits)
    frame.color_trc, frame.color_primaries, frame.colorspace, frame.color_range = transfer, 9, matrix, 1
    return frame


@pytest.mark.parametrize("transfer", [16, 18])
def test_highlights_are_compressed_and_never_clipped_below_the_peak(transfer):
    scaler = UprightScaler(probe_clip(CLIPS / "ocean.mp4"))
    ramp = [int(scaler.rgb(flat_hdr(n, transfer), 32, 32).mean()) for n in (1, 10, 50, 100, 203, 400, 600, 990)]
    assert ramp == sorted(set(ramp))
    assert ramp[-1] >= 253
    assert ramp[3] == pytest.approx(255 * (100 / 203) ** (1 / 2.4), abs=4)  # about as the light is
    assert 215 <= ramp[4] <= 240  # white paper is bright, with room above


def test_the_curve_is_that_of_bt2390_at_its_landmarks():
    nits = np.array([0.0, 0.01, 1, 50, 85, 203, 1000, 4000])
    shown = tone.bt2390_eetf(nits, 1000, 203)
    assert shown[:5] == pytest.approx(nits[:5], abs=1e-6)  # the identity below the knee, at 89 cd/m2
    assert shown[6:] == pytest.approx([203, 203], rel=1e-6)
    # PQ of 203 is 0.58069, of 1000 is 0.75183: by hand, T = 0.3338 and P = 0.7396 of the peak's code.
    assert tone.pq_encode(shown[5:6])[0] / 0.751827 == pytest.approx(0.7396, abs=0.001)
    assert (np.diff(shown[:7]) > 0).all()


def test_pq_and_hlg_are_those_of_bt2100():
    assert tone.pq_encode(np.array([100.0, 203, 1000, 10000])) == pytest.approx([0.5081, 0.5807, 0.7518, 1], abs=1e-4)
    assert tone.pq_decode(tone.pq_encode(np.array([0.05, 5.0, 500.0]))) == pytest.approx([0.05, 5, 500], rel=1e-6)
    assert tone.hlg_decode(np.array([0.5, 0.75, 1.0])) == pytest.approx([1 / 12, 0.26496, 1], abs=1e-4)


def test_a_film_that_says_how_bright_it_is_is_compressed_no_more_than_that_needs(tmp_path):
    dim = X265 | {"x265-params": X265["x265-params"] + ":max-cll=300,100"}
    mastered = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(40000000,50)"
    bright = X265 | {"x265-params": f"{X265['x265-params']}:master-display={mastered}"}
    means = []
    for number, options in enumerate((dim, X265, bright)):
        facts, frame = decoded(hdr_film(tmp_path / f"{number}.mkv", 16, 290, options, "libx265"))
        means.append(UprightScaler(facts).rgb(frame, 192, 320).mean())
    assert means[0] > means[1] + 1
    assert means[1] > means[2] + 1


def test_hdr_without_a_matrix_is_read_as_bt2020():
    scaler = UprightScaler(probe_clip(CLIPS / "ocean.mp4"))
    tagged, untagged = (hdr_frame(originals()[0], 16, 200) for _ in range(2))
    for frame, matrix in ((tagged, 9), (untagged, 2)):
        frame.color_trc, frame.color_primaries, frame.colorspace = 16, 9, matrix
    assert np.array_equal(scaler.rgb(tagged, 176, 320), scaler.rgb(untagged, 176, 320))


def test_hdr_is_noted(tmp_path):
    facts = probe_clip(hdr_film(tmp_path / "hdr.mp4", 16, 500))
    assert "hdr" in facts.flags
    assert any("BT.2390" in note for note in facts.notes)


def test_wide_gamut_comes_out_in_bt709_as_ffmpegs_colorspace_filter_has_it(tmp_path):
    linear = (originals()[1] / 255) ** 2.4
    wide = np.round(65535 * np.clip(linear @ TO_BT2020.T, 0, 1) ** (1 / 2.4)).astype(np.uint16)
    frames = [as_frame(wide, "yuv420p10le", 9)] * 2
    tags = {"color_range": 1, "matrix": 9, "transfer": 14, "primaries": 9}
    facts, frame = decoded(
        encode(tmp_path / "wide.mp4", frames, "libx264", "yuv420p10le", options={"crf": "10"}, **tags)
    )
    assert "hdr" not in facts.flags
    picture = UprightScaler(facts).rgb(frame, 192, 320)
    assert psnr(picture, area_scaled(originals()[1], 192, 320)) >= 33
    unconverted = reference(frame, 192, 320)
    small = filtered(frame, f"scale=320:192:{EXACT_FLAGS}")
    theirs = filtered(small, "colorspace=iall=bt2020:all=bt709:format=yuv444p", "format=yuv444p")
    theirs.colorspace, theirs.color_range = 1, 1
    theirs = filtered(theirs, f"scale=320:192:{EXACT_FLAGS}", "format=rgb24").to_ndarray()
    assert psnr(picture, theirs) >= 32
    assert psnr(picture, unconverted) < 30


@pytest.mark.parametrize("primaries", [9, 11, 12])
def test_white_stays_white_in_every_gamut(primaries):
    white = np.full((4, 4, 3), 65535, np.uint16)
    assert tone.to_sdr(white, 1, primaries).min() >= 254
    gray = np.full((4, 4, 3), 30000, np.uint16)
    assert np.ptp(tone.to_sdr(gray, 1, primaries)) <= 1


def alpha_ramp(height=352, width=640):
    """Clear above, opaque below that, then from clear to opaque from left to right."""
    alpha = np.tile(np.clip((np.arange(width) - 100) * 0.7, 0, 255).astype(np.uint8), (height, 1))
    alpha[:60], alpha[60:100] = 0, 255
    return alpha


ALPHA = [
    ("animation.mov", "qtrle", "argb", {}, 55),
    ("png.mov", "png", "rgba", {}, 55),
    ("prores4444.mov", "prores_ks", "yuva444p10le", {"profile": "4444", "alpha_bits": "16"}, 48),
    ("ffv1.mkv", "ffv1", "yuva420p", {}, 40),
    ("ffv1_deep.mkv", "ffv1", "gbrap12le", {}, 50),
]


@pytest.mark.parametrize(("name", "codec", "pix_fmt", "options", "bound"), ALPHA, ids=[a[0] for a in ALPHA])
def test_what_is_transparent_is_black_behind(tmp_path, name, codec, pix_fmt, options, bound):
    alpha = alpha_ramp()
    colours = {} if "rgb" in pix_fmt or "gbr" in pix_fmt else {"matrix": 1, "color_range": 1}
    frames = [
        av.VideoFrame.from_ndarray(np.dstack([rgb, alpha]), format="rgba").reformat(
            format=pix_fmt, dst_colorspace=1, dst_color_range=ColorRange.MPEG, interpolation=EXACT
        )
        for rgb in originals()[:2]
    ]
    facts, frame = decoded(encode(tmp_path / name, frames, codec, pix_fmt, options=options, **colours))
    true = np.round(originals()[1] * (alpha[..., None] / 255)).astype(np.uint8)
    # ffmpeg's filter truncates where we round, hence 54 dB at the best.
    full = frame.reformat(format="gbrap", dst_color_range=ColorRange.JPEG, interpolation=EXACT)
    for height, width in SIZES:
        picture = UprightScaler(facts).rgb(frame, height, width)
        assert psnr(picture, area_scaled(true, height, width)) >= bound
        assert psnr(picture, reference(full, height, width, "premultiply=inplace=1")) >= min(bound, 50)
        assert picture[: 50 * height // 352].max() <= 1


def test_transparency_that_the_decoder_leaves_out_is_said(tmp_path):
    rgba = np.dstack([originals()[0], alpha_ramp()])
    frames = [av.VideoFrame.from_ndarray(rgba, format="rgba").reformat(format="yuva420p") for _ in range(2)]
    options = {"cpu-used": "8", "auto-alt-ref": "0"}
    facts = probe_clip(encode(tmp_path / "alpha.webm", frames, "libvpx-vp9", "yuva420p", options=options))
    assert facts.pix_fmt == "yuv420p"
    assert "alpha_not_decoded" in facts.flags


def test_colours_hidden_by_alpha_do_not_bleed_into_the_edge():
    rgba = np.zeros((64, 64, 4), np.uint8)
    rgba[:, ::2] = (0, 200, 0, 255)
    rgba[:, 1::2] = (255, 0, 255, 0)  # hidden magenta beside each green column
    frame = av.VideoFrame.from_ndarray(rgba, format="rgba")
    picture = UprightScaler(probe_clip(CLIPS / "ocean.mp4")).rgb(frame, 32, 32)
    assert np.abs(picture.astype(int) - (0, 100, 0)).max() <= 3


def test_an_opaque_alpha_changes_nothing(tmp_path):
    rgba = np.dstack([originals()[0], np.full((352, 640), 255, np.uint8)])
    scaler = UprightScaler(probe_clip(CLIPS / "ocean.mp4"))
    picture = scaler.rgb(av.VideoFrame.from_ndarray(rgba, format="rgba"), 176, 320)
    assert psnr(picture, area_scaled(originals()[0], 176, 320)) >= 60


def woven(first, second, parity, pix_fmt, matrix=1):
    """An interlaced frame: the lines of `first` and, half a frame later, those of `second` between them."""
    top, bottom = (first, second) if parity == "tff" else (second, first)
    lines = top.copy()
    lines[1::2] = bottom[1::2]
    if pix_fmt == "yuv420p":  # chroma is subsampled within each field
        fields = [as_frame(np.ascontiguousarray(lines[at::2]), pix_fmt, matrix) for at in (0, 1)]
        frame = av.VideoFrame(lines.shape[1], lines.shape[0], pix_fmt)
        for number, plane in enumerate(frame.planes):
            data = np.zeros((plane.height, plane.line_size), np.uint8)
            for at, field in enumerate(fields):
                source = field.planes[number]
                data[at::2, : plane.width] = np.frombuffer(source, np.uint8).reshape(-1, source.line_size)[
                    :, : source.width
                ]
            plane.update(data.tobytes())
    else:
        frame = as_frame(lines, pix_fmt, matrix)
    frame.pts, frame.colorspace, frame.color_range = 0, matrix, 1
    return filtered(frame, f"setfield={parity}")


def of_interlaced(frame, height=192, width=320):
    return UprightScaler(probe_clip(CLIPS / "ocean.mp4")).rgb(frame, height, width)


@pytest.mark.parametrize("parity", ["tff", "bff"])
@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p10le"])
def test_moving_interlaced_frames_show_their_first_field_alone(parity, pix_fmt):
    first, second = originals(n=66)[60], originals(n=66)[65]
    picture = of_interlaced(woven(first, second, parity, pix_fmt))
    both = of_progressive(first, second, parity, pix_fmt)
    true = area_scaled(first, 192, 320)
    assert psnr(picture, true) >= 33
    assert psnr(picture, true) >= psnr(both, true) + 5
    assert psnr(picture, area_scaled(second, 192, 320)) < psnr(picture, true) - 6


def of_progressive(first, second, parity, pix_fmt):
    """The same frame with its comb, as if it were progressive."""
    return of_interlaced(filtered(woven(first, second, parity, pix_fmt), "setfield=prog"))


@pytest.mark.parametrize("parity", ["tff", "bff"])
def test_still_interlaced_frames_keep_all_their_lines(parity):
    picture = originals()[0].copy()
    picture[100:200:7] = 255  # thin lines, which one field alone would lose
    frame = woven(picture, picture, parity, "yuv444p")
    assert psnr(of_interlaced(frame, 352, 640), picture) >= 34
    one_field = filtered(frame, "separatefields", f"scale=640:352:{EXACT_FLAGS}", "format=rgb24").to_ndarray()
    assert psnr(one_field, picture) < 30


@pytest.mark.parametrize("parity", ["tff", "bff"])
def test_only_where_it_moves_is_a_frame_reduced_to_one_field(parity):
    first = originals()[0].copy()
    first[100:200:7, :300] = 255
    second = first.copy()
    second[:, 400:] = np.roll(first[:, 400:], 24, axis=1)
    picture = of_interlaced(woven(first, second, parity, "yuv444p"), 352, 640)
    assert psnr(picture[:, :320], first[:, :320]) >= 34
    moving = psnr(picture[:, 440:600], first[:, 440:600])
    comb = woven(first, second, parity, "yuv444p").to_ndarray(format="rgb24")
    assert moving >= psnr(comb[:, 440:600], first[:, 440:600]) + 5


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("mpeg2_tff.ts", "mpeg2video", {"flags": "+ildct+ilme", "b": "10M", "bf": "2"}),
        ("h264_tff.mp4", "libx264", {"flags": "+ildct+ilme", "crf": "8", "x264-params": "tff=1"}),
        ("h264_bff.mp4", "libx264", {"flags": "+ildct+ilme", "crf": "8", "x264-params": "bff=1"}),
    ],
)
def test_interlaced_files_are_near_bwdif_with_neighbours(tmp_path, name, codec, options):
    parity = "bff" if "bff" in name else "tff"
    source = originals(n=72)[::3]  # of three times the speed
    frames = [woven(a, b, parity, "yuv420p") for a, b in zip(source[::2], source[1::2], strict=True)]
    film = encode(tmp_path / name, frames, codec, "yuv420p", options=options, matrix=1, color_range=1)
    facts = probe_clip(film)
    assert facts.interlaced
    scaler = UprightScaler(facts)
    graph = av.filter.Graph()
    nodes = [graph.add_buffer(width=640, height=352, format="yuv420p", time_base=Fraction(1, 25))]
    nodes += [graph.add("bwdif", "mode=send_frame"), graph.add("scale", f"320:192:{EXACT_FLAGS}")]
    nodes += [graph.add("format", "rgb24"), graph.add("buffersink")]
    graph.link_nodes(*nodes).configure()
    ours, theirs = {}, []
    for index, frame in decode_frames(film, facts, range(len(frames))):
        ours[index] = scaler.rgb(frame, 192, 320)
        graph.vpush(frame)
    graph.vpush(None)
    while len(theirs) < len(frames):
        theirs.append(graph.vpull().to_ndarray())
    trues = [area_scaled(rgb, 192, 320) for rgb in source[::2]]
    inner = range(2, len(frames) - 2)  # bwdif too needs neighbours
    combs = [of_interlaced(filtered(frame, "setfield=prog")) for frame in frames]
    our_psnr = np.mean([psnr(ours[i], trues[i]) for i in inner])
    assert our_psnr >= np.mean([psnr(combs[i], trues[i]) for i in inner]) + 2
    assert our_psnr >= np.mean([psnr(theirs[i], trues[i]) for i in inner]) - 6


def test_frames_of_any_height_can_be_interlaced():
    for height, width in ((2, 16), (34, 48), (350, 640), (351, 640), (486, 720)):
        frame = filtered(as_frame(np.full((height, width, 3), 90, np.uint8), "yuv444p"), "setfield=bff")
        picture = of_interlaced(frame, 32, 48)
        assert np.abs(picture.astype(int) - 90).max() <= 3


def of_program(film, chain, height, width, *options):
    """Every frame as the ffmpeg program gives it, which turns pictures itself."""
    command = [FFMPEG, "-v", "error", *options, "-i", str(film), "-map", "0:v:0", "-vsync", "passthrough"]
    command += ["-vf", chain, "-pix_fmt", "rgb24", "-f", "rawvideo", "-"]
    raw = subprocess.run(command, capture_output=True, check=True, timeout=120).stdout
    return np.frombuffer(raw, np.uint8).reshape(-1, height, width, 3)


def mirrored(film, axis):
    """Patch the display matrix of an mp4 (version 0): it follows five times and 16 reserved bytes."""
    data = bytearray(film.read_bytes())
    at = data.index(b"tkhd") + 4 + 4 + 20 + 16 + (0 if axis == "x" else 16)
    assert int.from_bytes(data[at : at + 4], "big", signed=True) == 1 << 16
    data[at : at + 4] = (-1 << 16).to_bytes(4, "big", signed=True)
    film.write_bytes(data)
    return film


def edit_list_from_the_middle(path):
    """A film whose first 13 frames are decoded and not shown."""
    film = make_film(path, 40, options={"bf": "2", "g": "40", "crf": "12"})
    data = bytearray(film.read_bytes())
    at = data.index(b"elst") + 4 + 4 + 4 + 4  # size and duration come before media_time
    start = int.from_bytes(data[at : at + 4], "big", signed=True)
    scale = data.index(b"mdhd") + 4 + 12
    ticks = int.from_bytes(data[scale : scale + 4], "big")
    data[at : at + 4] = (start + 13 * ticks // 25).to_bytes(4, "big", signed=True)
    film.write_bytes(data)
    return film


PROGRAM_FILMS = {
    "plain.mp4": lambda path: make_film(path, 12, options={"bf": "3", "crf": "12"}),
    "turned90.mp4": lambda path: make_film(path, 5, rotation=90, options={"crf": "12"}),
    "turned-90.mp4": lambda path: make_film(path, 5, rotation=-90, options={"crf": "12"}),
    "turned180.mp4": lambda path: make_film(path, 5, rotation=180, options={"crf": "12"}),
    "wide_pixels.mp4": lambda path: make_film(path, 5, aspect=Fraction(3, 2), options={"crf": "12"}),
    "wide_pixels_turned.mp4": lambda path: make_film(
        path, 5, aspect=Fraction(3, 2), rotation=90, options={"crf": "12"}
    ),
    "uneven.mkv": lambda path: make_film(
        path, 12, pts=[0, 1, 2, 5, 6, 7, 8, 20, 21, 22, 23, 24], options={"crf": "12"}
    ),
    "before_zero.mkv": lambda path: make_film(
        path, 12, pts=range(-4, 8), container_options={"avoid_negative_ts": "disabled"}, options={"bf": "0"}
    ),
    "no_times.avi": lambda path: make_film(path, 12, options={"bf": "2", "crf": "12"}),
    "edited.mp4": edit_list_from_the_middle,
    "tv.ts": lambda path: make_film(path, 12, container_format="mpegts", options={"crf": "12"}),
}


@pytest.mark.skipif(FFMPEG is None, reason="the ffmpeg program is not installed")
@pytest.mark.parametrize("name", PROGRAM_FILMS)
def test_frame_by_frame_the_pictures_are_those_of_the_ffmpeg_program(tmp_path, name):
    film = PROGRAM_FILMS[name](tmp_path / name)
    facts = probe_clip(film)
    height, width = facts.display_height, facts.display_width
    scaler = UprightScaler(facts)
    ours = {
        index: scaler.rgb(frame, height, width) for index, frame in decode_frames(film, facts, range(facts.n_frames))
    }
    theirs = of_program(film, f"scale={width}:{height}:{EXACT_FLAGS}", height, width)
    assert len(ours) == len(theirs) == facts.n_frames
    for index, picture in enumerate(theirs):
        assert psnr(ours[index], picture) >= 33
        upright = np.rot90(picture, facts.rotation // 90)  # back to how the number was drawn
        if facts.rotation == 0:
            assert number_of(ours[index]) == number_of(upright)


@pytest.mark.parametrize(
    ("rotation", "turn"), [(90, "transpose=cclock"), (-90, "transpose=clock"), (180, "transpose=clock")]
)
def test_turning_is_that_of_ffmpegs_transpose(tmp_path, rotation, turn):
    facts, frame = decoded(make_film(tmp_path / "film.mp4", 4, rotation=rotation, options={"crf": "10"}))
    height, width = facts.display_height, facts.display_width
    turns = [turn] * (2 if rotation == 180 else 1)
    assert psnr(UprightScaler(facts).rgb(frame, height, width), reference(frame, height, width, *turns)) >= 33
