"""Claims about measurements, on pictures whose light, colours and movement are known because they were made here."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st

from caption_assets.engines.measure import (
    Transition,
    UnreadableFrameError,
    WindowMeasurements,
    colour_name,
    measure_window,
)
from caption_assets.engines.protocol import PackedFrames

Picture = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]
WIDTH, HEIGHT = 320, 180
FPS = 2.0


def packed(pictures: Sequence[Picture], fps: float = FPS, quality: int = 95) -> PackedFrames:
    jpegs = [simplejpeg.encode_jpeg(np.ascontiguousarray(p), quality, "RGB", "420") for p in pictures]
    height, width, _ = pictures[0].shape
    return PackedFrames(jpegs, [i / fps for i in range(len(jpegs))], width, height)


def measured(pictures: Sequence[Picture]) -> WindowMeasurements:
    return measure_window(packed(pictures))


def texture(height: int, width: int, seed: int = 0) -> Picture:
    """Return coloured noise with detail at several scales, as in a landscape."""
    rng = np.random.default_rng(seed)
    total = np.zeros((height, width, 3))
    for cell in (4, 10, 24, 60):
        coarse = rng.normal(size=(height // cell + 3, width // cell + 3, 3))
        y, x = np.arange(height) / cell, np.arange(width) / cell
        total += bilinear(coarse, y, x) * cell**0.4
    scaled = (total - total.mean()) / total.std() * 45 + 120
    picture: Picture = np.clip(scaled, 0, 255).astype(np.uint8)
    return picture


def bilinear(image: Floats, y: npt.NDArray[Any], x: npt.NDArray[Any]) -> Floats:
    y0, x0 = y.astype(int), x.astype(int)
    fy, fx = (y - y0)[:, None, None], (x - x0)[None, :, None]
    top = image[y0][:, x0] * (1 - fx) + image[y0][:, x0 + 1] * fx
    bottom = image[y0 + 1][:, x0] * (1 - fx) + image[y0 + 1][:, x0 + 1] * fx
    return np.ascontiguousarray(top * (1 - fy) + bottom * fy)


WORLD = texture(700, 1100)
OTHER_WORLD = texture(HEIGHT, WIDTH, seed=9)


def view(x: float = 390, y: float = 260, scale: float = 1.0) -> Picture:
    """Return what a camera sees whose picture's centre lies `x`, `y` px (plus half a picture) into the world."""
    rows = y + HEIGHT / 2 + (np.arange(HEIGHT) - HEIGHT / 2) / scale
    columns = x + WIDTH / 2 + (np.arange(WIDTH) - WIDTH / 2) / scale
    return bilinear(WORLD.astype(float), rows, columns).round().astype(np.uint8)


def flat(red: int, green: int, blue: int) -> Picture:
    return np.full((HEIGHT, WIDTH, 3), (red, green, blue), np.uint8)


def with_disc(picture: Picture, x: int, y: int, radius: int = 14) -> Picture:
    rows, columns = np.mgrid[0 : picture.shape[0], 0 : picture.shape[1]]
    changed = picture.copy()
    changed[(rows - y) ** 2 + (columns - x) ** 2 <= radius**2] = (250, 240, 40)
    return changed


def moves(pictures: Sequence[Picture]) -> tuple[str, ...] | None:
    camera = measured(pictures).shots[0].camera
    return camera.moves if camera else None


# --- camera -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [1.5, 4, 9, 20, 30])
@pytest.mark.parametrize(
    ("direction", "move"),
    [((1, 0), "pans right"), ((-1, 0), "pans left"), ((0, 1), "tilts down"), ((0, -1), "tilts up")],
)
def test_a_camera_that_shifts_by_known_pixels_is_named_and_measured(
    step: float, direction: tuple[int, int], move: str
) -> None:
    dx, dy = direction
    shot = measured([view(390 + dx * step * i, 260 + dy * step * i) for i in range(8)]).shots[0]
    assert shot.camera is not None
    assert shot.camera.moves == (move,)
    expected = 100 * step * 7 / WIDTH
    assert (shot.camera.pan, shot.camera.tilt) == pytest.approx((dx * expected, -dy * expected), rel=0.08, abs=0.5)
    assert shot.motion < 1.0, "the camera's own movement is not motion in the picture"


@pytest.mark.parametrize(("factor", "move"), [(1.03, "zooms in"), (1.08, "zooms in"), (1 / 1.03, "zooms out")])
def test_a_zoom_is_named_and_its_size_measured(factor: float, move: str) -> None:
    camera = measured([view(scale=factor**i) for i in range(7)]).shots[0].camera
    assert camera is not None
    assert camera.moves == (move,)
    assert camera.zoom == pytest.approx(100 * 6 * (factor - 1), rel=0.25)


def test_a_still_picture_has_a_static_camera_and_no_motion() -> None:
    result = measured([view()] * 8)
    assert moves([view()] * 8) == ("static",)
    assert (result.motion, result.place, result.freezes, result.transitions) == (0.0, None, (), ())


def test_an_object_that_crosses_a_static_picture_is_motion_not_camera() -> None:
    result = measured([with_disc(view(), 30 + 30 * i, 90, 24) for i in range(9)])
    assert result.shots[0].camera is not None
    assert result.shots[0].camera.moves == ("static",)
    assert result.motion is not None
    assert result.motion > 1


def test_a_camera_that_shakes_without_going_anywhere_is_unsteady() -> None:
    rng = np.random.default_rng(4)
    assert moves([view(390 + dx, 260 + dy) for dx, dy in rng.uniform(-8, 8, (12, 2))]) == ("unsteady",)


@pytest.mark.parametrize(
    "pictures",
    [
        pytest.param([texture(HEIGHT, WIDTH, seed) for seed in range(8)], id="a new picture at each sample"),
        pytest.param([flat(90, 120, 200)] * 8, id="nothing to hold on to"),
        pytest.param([view(5 + 250 * (i % 4), 20 + 200 * (i % 3)) for i in range(8)], id="jumps beyond the overlap"),
        pytest.param([view(), view()], id="one gap"),
        pytest.param([view()], id="one frame"),
    ],
)
def test_nothing_is_said_about_a_camera_that_cannot_be_followed(pictures: list[Picture]) -> None:
    assert all(shot.camera is None for shot in measured(pictures).shots)


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10_000))
def test_water_like_motion_never_passes_for_a_camera_move(seed: int) -> None:
    rng = np.random.default_rng(seed)
    layers = [texture(HEIGHT, WIDTH, int(layer)) for layer in rng.integers(1, 10_000, 3)]
    pictures = []
    for i in range(8):
        rolled = [
            np.roll(layer, (int(3 * i * dy), int(3 * i * dx)), (0, 1)).astype(float)
            for layer, dx, dy in zip(layers, (1, -1, 0), (0, 1, -1), strict=True)
        ]
        pictures.append(np.mean(rolled, axis=0).astype(np.uint8))
    assert moves(pictures) in (None, ("static",))


# --- motion -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("centre", "place"),
    [
        ((40, 30), "upper left"),
        ((280, 150), "lower right"),
        ((160, 90), "centre"),
        ((280, 30), "upper right"),
        ((40, 90), "left"),
        ((160, 160), "bottom"),
    ],
)
def test_local_motion_is_placed(centre: tuple[int, int], place: str) -> None:
    x, y = centre
    pictures = [with_disc(view(), x + 8 * (i % 2), y + 5 * (i % 3)) for i in range(8)]
    assert measured(pictures).place == place


def test_the_strongest_motion_is_timed() -> None:
    places = [40, 42, 44, 46, 200, 202, 204, 206]
    result = measured([with_disc(view(), x, 90, 30) for x in places])
    assert result.motion_peak_s == 1.8  # half-way between the samples at 1.5 and 2.0 s, rounded to even
    assert result.motion is not None
    assert result.motion_peak > 2 * result.motion


def test_motion_too_slow_for_two_samples_shows_over_the_shot() -> None:
    ramp = np.tile(np.linspace(60, 200, WIDTH)[None, :, None], (HEIGHT, 1, 3))
    shot = measured([np.roll(ramp, 3 * i, axis=1)[:, 40:].astype(np.uint8) for i in range(12)]).shots[0]
    assert shot.motion < 0.5
    assert shot.change is not None
    assert shot.change > 50


def test_a_freeze_inside_a_moving_window_is_found() -> None:
    xs = [30, 60, 90, 120, 120, 120, 120, 150, 180]
    freezes = measured([with_disc(view(), x, 90) for x in xs]).freezes
    assert [(span.start_s, span.end_s) for span in freezes] == [(1.5, 3.0)]


# --- cuts and fades ---------------------------------------------------------------------------------------------------


def test_a_cut_is_found_between_its_two_samples_and_splits_the_shots() -> None:
    result = measured([view()] * 5 + [OTHER_WORLD] * 4)
    assert result.transitions == (Transition("cut", 2.0, 2.5),)
    assert [(shot.start_s, shot.end_s, shot.samples) for shot in result.shots] == [(0.0, 2.0, 5), (2.5, 4.0, 4)]
    assert result.motion == 0.0, "a cut is not motion"


def test_every_cut_of_a_fast_montage_is_found() -> None:
    colours = [(220, 30, 30), (30, 160, 40), (40, 60, 220), (230, 220, 50)]
    blends = [(texture(HEIGHT, WIDTH, i) * 0.4 + np.array(c) * 0.6).astype(np.uint8) for i, c in enumerate(colours)]
    assert [t.kind for t in measured(blends).transitions] == ["cut", "cut", "cut"]


def faded(share: float, towards: int = 0, picture: Callable[[], Picture] = view) -> Picture:
    return (picture() * (1 - share) + towards * share).round().astype(np.uint8)


@pytest.mark.parametrize(("towards", "name"), [(0, "black"), (255, "white")])
def test_fades_are_found_with_their_times(towards: int, name: str) -> None:
    levels = [0, 0, 0, 0.3, 0.6, 1, 1]
    out = measured([faded(level, towards) for level in levels])
    back = measured([faded(level, towards) for level in reversed(levels)])
    assert out.transitions == (Transition(f"fade to {name}", 1.0, 2.5),)  # type: ignore[arg-type]
    assert back.transitions == (Transition(f"fade from {name}", 0.5, 2.0),)  # type: ignore[arg-type]


def test_one_frame_of_flash_is_no_fade_and_moving_texture_no_dissolve() -> None:
    flash = measured([view()] * 4 + [flat(255, 255, 255)] + [view()] * 4).transitions
    assert all(transition.kind == "cut" for transition in flash)
    pan = measured([view(390 + 30 * i) for i in range(8)])
    assert pan.transitions == ()


def test_a_dissolve_is_told_from_a_cut() -> None:
    half = ((view().astype(int) + OTHER_WORLD) // 2).astype(np.uint8)
    result = measured([view()] * 4 + [half] + [OTHER_WORLD] * 4)
    assert result.transitions == (Transition("dissolve", 1.5, 2.5),)


@pytest.mark.parametrize("step", [4, 20, 40])
def test_a_pan_has_no_cuts(step: int) -> None:
    assert measured([view(390 + step * (i - 4)) for i in range(8)]).transitions == ()


def test_a_picture_that_gets_darker_is_not_cut() -> None:
    result = measured([faded(0.07 * i) for i in range(10)])
    assert result.transitions == ()
    assert result.shots[0].light_change < -30


# --- light and colour -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rgb", "name"),
    [
        ((0, 0, 0), "black"),
        ((255, 255, 255), "white"),
        ((128, 128, 128), "grey"),
        ((64, 64, 64), "dark grey"),
        ((211, 211, 211), "light grey"),
        ((255, 0, 0), "red"),
        ((128, 0, 0), "dark red"),
        ((0, 255, 0), "green"),
        ((0, 128, 0), "green"),
        ((0, 70, 0), "dark green"),
        ((0, 0, 255), "blue"),
        ((0, 0, 128), "dark blue"),
        ((135, 206, 235), "light blue"),
        ((255, 255, 0), "yellow"),
        ((255, 215, 0), "yellow"),
        ((255, 165, 0), "orange"),
        ((255, 120, 0), "orange"),
        ((128, 0, 128), "purple"),
        ((255, 0, 255), "magenta"),
        ((255, 192, 203), "pink"),
        ((255, 105, 180), "pink"),
        ((139, 69, 19), "brown"),
        ((210, 180, 140), "beige"),
        ((0, 128, 128), "teal"),
        ((64, 224, 208), "teal"),
        ((140, 170, 40), "green"),
    ],
)
def test_colours_have_their_common_names(rgb: tuple[int, int, int], name: str) -> None:
    assert colour_name(*rgb) == name
    result = measured([flat(*rgb)] * 4)
    assert [(share.name, share.percent) for share in result.colours] == [(name, 100)]


def test_shares_are_those_of_the_picture() -> None:
    half = flat(255, 0, 0)
    half[:, : WIDTH // 4] = (0, 0, 255)
    shares = {share.name: share.percent for share in measured([half] * 4).colours}
    assert shares["red"] == pytest.approx(75, abs=2)
    assert shares["blue"] == pytest.approx(25, abs=2)


def test_grey_has_no_colourfulness_and_saturated_halves_have_much() -> None:
    assert measured([flat(120, 120, 120)] * 4).colourfulness == 0
    half = flat(255, 0, 0)
    half[:, : WIDTH // 2] = (0, 255, 0)
    assert measured([half] * 4).colourfulness > 109


def test_black_bars_are_named_and_left_out_of_every_number() -> None:
    picture = np.full((HEIGHT, WIDTH, 3), 200, np.uint8)
    picture[:24] = picture[-24:] = 0
    result = measured([picture] * 4)
    assert (result.bars, result.light, result.colours[0].name) == ("above and below", 200, "light grey")
    assert measured([flat(0, 0, 0)] * 4).bars is None


@pytest.mark.parametrize("size", [(1280, 720), (720, 1280), (644, 364), (64, 48), (28, 28), (1000, 28), (3000, 400)])
def test_any_frame_size_is_measured(size: tuple[int, int]) -> None:
    width, height = size
    result = measured([texture(height, width, 3)] * 4)
    assert 100 < result.light < 140
    assert result.motion == 0.0


# --- what cannot be read ----------------------------------------------------------------------------------------------


def good_jpeg() -> bytes:
    return bytes(simplejpeg.encode_jpeg(view(), 90))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (b"", "frame 3 of 4 is not a JPEG"),
        (b"not a picture", "frame 3 of 4 is not a JPEG"),
        (good_jpeg()[: len(good_jpeg()) // 2], "frame 3 of 4 is not a JPEG"),
        (simplejpeg.encode_jpeg(texture(90, 160), 90), "frame 3 of 4 is 160x90, not 320x180"),
    ],
    ids=["empty", "text", "cut in the middle", "another size"],
)
def test_a_frame_that_cannot_be_read_is_named(bad: bytes, message: str) -> None:
    frames = PackedFrames([good_jpeg(), good_jpeg(), bad, good_jpeg()], [0, 0.5, 1, 1.5], WIDTH, HEIGHT)
    with pytest.raises(UnreadableFrameError, match=message):
        measure_window(frames)


def test_a_window_without_frames_or_with_times_out_of_order_is_refused() -> None:
    with pytest.raises(UnreadableFrameError, match="without frames"):
        measure_window(PackedFrames([], [], WIDTH, HEIGHT))
    with pytest.raises(UnreadableFrameError, match="frame 2 of 2 is earlier"):
        measure_window(PackedFrames([good_jpeg()] * 2, [1.0, 0.5], WIDTH, HEIGHT))


def test_a_grey_jpeg_is_measured_like_any_other() -> None:
    grey = simplejpeg.encode_jpeg(np.ascontiguousarray(view()[:, :, :1]), 90, "GRAY")
    assert measure_window(PackedFrames([grey] * 4, [0, 1, 2, 3], WIDTH, HEIGHT)).colourfulness == 0


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["black", "white", "view", "moved", "other", "dim"]), min_size=1, max_size=7))
def test_any_order_of_pictures_is_measured(order: list[str]) -> None:
    result = measure_window(
        PackedFrames([jpegs()[name] for name in order], [i / 2 for i in range(len(order))], 320, 180)
    )
    assert sum(shot.samples for shot in result.shots) == result.samples == len(order)
    assert sum(share.percent for share in result.colours) <= 105
    assert result.motion is None or 0 <= result.motion <= result.motion_peak <= 100


@cache
def jpegs() -> dict[str, bytes]:
    pictures = {
        "black": flat(0, 0, 0),
        "white": flat(255, 255, 255),
        "view": view(),
        "moved": view(400, 265),
        "other": OTHER_WORLD,
        "dim": faded(0.5),
    }
    return {name: simplejpeg.encode_jpeg(picture, 90) for name, picture in pictures.items()}
