"""Prints of pictures: what they keep through, what they tell apart, and that they come from the decoded frame alone."""

import av
import duckdb
import numpy as np
import pytest

from caption_assets.settings.groups import WindowSettings
from caption_assets.video.fingerprint import FramePrint, FramePrinter, WindowPrint, bit_share, dhash, pixel_digest
from caption_assets.video.pack import PackRule, pack_windows, plan_clip
from caption_assets.video.probe import probe_clip
from tests.video.films import CLIPS, film_of, make_film
from tests.video.test_pack import shrunk

LUMA = np.array((0.299, 0.587, 0.114))


def prints(path, every=10):
    """The prints of every tenth frame of a film."""
    printer = FramePrinter(probe_clip(path))
    with av.open(str(path)) as container:
        return [printer.print_of(frame) for n, frame in enumerate(container.decode(video=0)) if n % every == 0]


def hashes(path, every=10):
    return [frame.dhash for frame in prints(path, every)]


def pictures_of(path, height, width, every=1):
    with av.open(str(path)) as container:
        for n, frame in enumerate(container.decode(video=0)):
            if n % every == 0:
                yield frame.to_ndarray(format="rgb24", width=width, height=height)


def test_a_hash_is_one_bit_for_each_pixel_that_its_right_neighbour_outshines():
    luma = np.random.default_rng(1).integers(0, 256, (8, 9))
    bits = "".join("1" if luma[row, x + 1] > luma[row, x] else "0" for row in range(8) for x in range(8))
    assert dhash(luma) == int(bits, 2)
    assert dhash(np.tile(np.arange(9), (8, 1))) == 2**64 - 1
    assert dhash(np.full((8, 9), 77)) == 0
    with pytest.raises(ValueError, match=r"wanted \(8, 9\)"):
        dhash(luma.T)


def test_a_hash_keeps_through_changes_of_light():
    luma = np.random.default_rng(2).permutation(72).reshape(8, 9)
    assert dhash(luma * 3 + 20) == dhash(luma * 0.4) == dhash(luma)


def test_shares_of_bits_are_those_that_sql_counts():
    a = np.random.default_rng(3).integers(0, 2**64, 50, np.uint64)
    b = np.random.default_rng(4).integers(0, 2**64, 50, np.uint64)
    told = duckdb.execute("SELECT list_transform(list_zip($1, $2), x -> bit_count(xor(x[1], x[2])) / 64)",
                          [a.tolist(), b.tolist()]).fetchall()[0][0]  # fmt: skip
    assert bit_share(a, b).tolist() == told
    assert bit_share(0, 2**64 - 1) == 1
    assert bit_share(a[:, None], b[None, :]).shape == (50, 50)


@pytest.mark.parametrize("name", sorted(path.name for path in CLIPS.iterdir()))
def test_cells_are_averages_of_their_area(name):
    """Measured: 2.8 levels apart, where the scaler averages chroma at half the size."""
    [expected, *_] = pictures_of(CLIPS / name, None, None)
    seen = prints(CLIPS / name, every=10**6)[0]
    small = shrunk(expected, 8, 9)
    assert np.abs(seen.luma - small @ LUMA).max() <= 4
    assert np.abs(seen.color - small.mean(axis=(0, 1))).max() <= 2
    assert seen.dhash == dhash(seen.luma)


def test_the_same_in_another_codec_differs_in_few_bits():
    a, b = hashes(CLIPS / "ocean.mp4"), hashes(CLIPS / "ocean.webm")
    assert len(a) == len(b) >= 10
    assert bit_share(a, b).mean() <= 0.035


@pytest.mark.parametrize(("codec", "suffix", "size"), [("mpeg4", "avi", (180, 320)), ("libx264", "mp4", (364, 644))])
def test_the_same_in_another_size_and_darker_differs_in_few_bits(tmp_path, codec, suffix, size):
    source = CLIPS / "bigbuckbunny.mp4"
    darker = (picture // 4 * 3 for picture in pictures_of(source, *size, every=10))
    copy = film_of(tmp_path / f"copy.{suffix}", darker, codec=codec, options={"b": "400000"})
    a, b = hashes(source), hashes(copy, every=1)
    assert len(a) == len(b)
    assert bit_share(a, b).mean() <= 0.035


def test_different_films_differ_in_many_bits():
    films = {
        name: np.array(hashes(CLIPS / name), np.uint64) for name in ("bigbuckbunny.mp4", "cityCC0.mpg", "ocean.mp4")
    }
    means = [bit_share(a[:, None], b[None, :]).mean() for n, a in films.items() for m, b in films.items() if n < m]
    assert len(means) == 3
    assert min(means) >= 0.3


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_a_print_is_of_the_upright_picture(tmp_path, rotation):
    film = make_film(tmp_path / "film.mp4", 4, rotation=rotation)
    facts = probe_clip(film)
    seen = prints(film, every=1)[1]
    with av.open(str(film)) as container:
        coded = next(frame for n, frame in enumerate(container.decode(video=0)) if n == 1).to_ndarray(format="rgb24")
    upright = np.rot90(coded, -(facts.rotation // 90) % 4)
    assert facts.rotation == (360 - rotation) % 360
    assert np.abs(seen.luma - shrunk(upright, 8, 9) @ LUMA).max() <= 4


def test_full_and_limited_range_give_the_same_light(tmp_path):
    limited = prints(make_film(tmp_path / "limited.mp4", 4))[0]
    full = prints(make_film(tmp_path / "full.mp4", 4, pix_fmt="yuvj420p"))[0]
    assert np.abs(limited.luma.astype(int) - full.luma).max() <= 2
    assert np.abs(limited.color - full.color).max() <= 2


LINE_BYTES = {  # of the planes of a picture that is 50 pixels wide
    "yuv422p10le": (100, 50, 50), "yuv420p": (50, 25, 25), "yuva420p": (50, 25, 25, 50), "nv12": (50, 50),
    "p010le": (100, 100), "yuyv422": (100,), "rgb24": (150,), "gbrp": (50, 50, 50), "rgba": (200,), "gray": (50,),
    "gray10le": (100,), "pal8": (50, 0), "rgb48le": (300,), "monob": (7,),
}  # fmt: skip


@pytest.mark.parametrize("name", LINE_BYTES)
def test_a_digest_is_of_every_sample_and_of_no_padding(name):
    def made(change=None):
        frame = av.VideoFrame(50, 38, name)
        for index, plane in enumerate(frame.planes):
            data = bytearray(b"\x10" * plane.buffer_size)
            if change is not None and change[0] == index:
                data[change[1]] = 0x5A
            plane.update(bytes(data))
        return frame

    same = pixel_digest(made())
    assert pixel_digest(made()) == same
    for index, (plane, width) in enumerate(zip(made().planes, LINE_BYTES[name], strict=True)):
        last = plane.line_size * (plane.height - 1)
        assert pixel_digest(made((index, 0))) != same
        if plane.line_size:
            assert pixel_digest(made((index, last + width - 1))) != same, "the last sample of the last line"
            assert plane.line_size > width, "the format's lines are padded, or this shows nothing"
            assert pixel_digest(made((index, last + width))) == same
            assert pixel_digest(made((index, width))) == same


def test_a_digest_tells_formats_and_sizes_apart():
    def gray(width, height):
        frame = av.VideoFrame(width, height, "gray")
        frame.planes[0].update(bytes(frame.planes[0].buffer_size))
        return pixel_digest(frame)

    assert len({gray(64, 32), gray(32, 64), gray(64, 33)}) == 3


def test_a_print_of_a_window_holds_every_frame_and_the_range_of_each_cell():
    rng = np.random.default_rng(5)
    frames = [
        FramePrint(n, rng.integers(0, 256, (8, 9), np.uint8), np.array((n * 50, 255, 0), np.float32), bytes([n] * 16))
        for n in range(3)
    ]
    seen = WindowPrint.of(frames)
    luma = np.stack([frame.luma for frame in frames])
    assert seen.frame_hashes == (0, 1, 2)
    assert seen.luma_low == tuple(luma.min(axis=0).ravel())
    assert seen.luma_high == tuple(luma.max(axis=0).ravel())
    assert seen.color == "#32ff00"
    assert WindowPrint.of(frames[::-1]).frames_digest != seen.frames_digest, "the order of the frames counts"


def test_how_frames_are_packed_changes_no_print(tmp_path):
    film = make_film(tmp_path / "film.mp4", 300)
    facts = probe_clip(film)
    windows = [
        (f"w{i}", window)
        for i, window in enumerate(plan_clip(facts, WindowSettings(window_size=100, remainder_threshold=50)))
    ]
    one, other = (
        [outcome.seen for outcome in pack_windows(film, facts, windows, rule, tmp_path / str(rule.quality))]
        for rule in (PackRule(32, 95), PackRule(28, 40))
    )
    assert one == other
    assert [len(seen.frame_hashes) for seen in one] == [len(window.frame_indices) for _, window in windows]
    whole = prints(film, every=1)
    assert [whole[i].dhash for i in windows[1][1].frame_indices] == list(one[1].frame_hashes)


def test_a_window_that_failed_has_no_print(tmp_path):
    film = make_film(tmp_path / "film.mp4", 30)
    facts = probe_clip(film)
    film.unlink()
    [outcome] = pack_windows(film, facts, [("w", plan_clip(facts, WindowSettings())[0])], PackRule(), tmp_path / "f")
    assert (outcome.status, outcome.seen) == ("error", None)
