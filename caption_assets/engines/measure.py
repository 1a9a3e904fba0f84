"""Measure a window's packed frames: light, colours, camera, motion, cuts. Pixels only, no model.

`measure_window(frames)` decodes each JPEG once, scaled down to about `WORKING_SIDE_PX`, and returns a frozen
`WindowMeasurements`. All its numbers are rounded, so that float noise between machines does not reach a sentence.
Times are seconds from the window's first sample, positions are read in the upright picture, luma is BT.601 (0 black,
255 white), a gap is the step between two neighbouring samples.

What it finds it must be able to defend: at two samples a second a fast camera cannot be followed, and then the camera
is `None` ("not known") rather than guessed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import simplejpeg

from caption_assets.engines.protocol import PackedFrames

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]

TransitionKind = Literal["cut", "dissolve", "fade from black", "fade to black", "fade from white", "fade to white"]
Bars = Literal["above and below", "left and right"]
Place = Literal[
    "upper left", "left", "lower left", "top", "centre", "bottom", "upper right", "right", "lower right",
    "left half", "right half", "upper half", "lower half", "everywhere",
]  # fmt: skip
CameraMove = Literal["static", "pans left", "pans right", "tilts up", "tilts down", "zooms in", "zooms out", "unsteady"]

WORKING_SIDE_PX = 160  # longer side after decoding: enough for camera steps of 0.1 % of the width, fast everywhere
WORKING_MIN_PX = 32  # shorter side kept at least, so that a banner still has texture
BLACK_LUMA = 16  # at or below this a pixel is black on any screen (video black)
WHITE_LUMA = 239  # at or above this a pixel is white
FLAT_CONTRAST = 6.0  # luma standard deviation of a frame with nothing in it
BAR_MIN_SHARE = 0.03  # bars thinner than this share of the side are a coding edge, not letterboxing
BAR_MAX_SHARE = 0.35  # two bars that leave less than 30 % are a dark picture, not letterboxing

CUT_HISTOGRAM_WEIGHT = 0.5  # half colour, half structure: either alone mistakes a flash or a fast pan for a cut
CUT_DIFFERENCE = 0.42  # 0 equal .. 1 nothing in common; neighbours within a shot stay below 0.3
CUT_DIFFERENCE_SURE = 0.72  # so different that no comparison with the other gaps is needed
CUT_OVER_MEDIAN = 2.5  # a cut stands out this many times over the window's median gap
DISSOLVE_DIFFERENCE = 0.15  # each half of a dissolve; the two halves together are as different as a cut
DISSOLVE_RESIDUAL = 0.35  # share of the change that a blend of both sides leaves unexplained
DISSOLVE_BLEND = (0.15, 0.85)  # blends outside are one of the two sides
FADE_SIMILARITY = 0.6  # correlation of a fading frame with its unfaded neighbour

TILE_PX = 32  # a tile follows steps of up to a third of its side
TILE_STEP_PX = 21
TILE_TEXTURE = 9.0  # smaller eigenvalue of the mean gradient tensor (luma levels per px, squared): a corner is needed
PHASE_PEAK = 0.10  # phase correlation peak (0..1) that stands clear of noise in a tile
PHASE_PEAK_WHOLE = 0.06  # the same for the whole picture: more pixels, less noise
STEP_TOLERANCE_PX = 0.6  # a tile agrees with the camera model within this
CAMERA_MIN_TILES = 5
CAMERA_MIN_AGREEMENT = 0.5  # share of textured tiles that must follow one camera model
CAMERA_MIN_QUADRANTS = 3  # background fills the picture, an object does not
CAMERA_MIN_KNOWN = 0.6  # share of a shot's gaps that must be explained before anything is said
STATIC_PATH = 0.012  # shares of the longer side: below, the whole shot's camera path is measuring noise
STATIC_STEP = 0.0025  # the same for one gap
MOVE_NET = 0.03  # shares of the longer side: a pan, tilt or zoom is named from here on
MOVE_STEADINESS = 0.7  # net way over path length of a deliberate move
SECOND_MOVE = 0.7  # a second move is named when it is this large against the first
CONFIRM_PX = 2.0  # a move is looked at again between samples so far apart that the border has moved this much
CONFIRM_PAIRS = 3
CONFIRM_TOLERANCE_PX = 1.0  # for these pairs: perspective bends a long step more than a short one
CONFIRM_SHARE = 0.5  # half to one and a half times the expected move counts as confirmed
UNSTEADY_PATH = 0.004  # path per gap from which a camera that goes nowhere is called unsteady
MAX_ZOOM_STEP = 0.15  # per gap; more cannot be followed by the tiles

MOVED_LUMA = 10.0  # luma levels: above the noise of a good encoding
MOVED_GRADIENT_PX = 0.15  # a change that so small a displacement explains is coding noise
MOVED_GRADIENT_FOLLOWED_PX = 1.0  # the same after the camera's step was taken out: perspective and parallax remain
FOLLOW_PX = 1.5  # smaller steps on average are taken out only in a shot whose camera is known to move
HIGHLIGHT_LUMA = 190  # a highlight stands out of a dim picture from here on
FREEZE_LUMA = 0.4  # mean absolute luma difference below which two samples show one picture
FREEZE_MIN_S = 0.9  # shorter repeats are slow frame rates
STILL_SHARE = 0.005  # of the picture: with less motion between samples, the place is read from the whole shot's change
PLACE_THIRD_SHARE = 0.6  # of all motion inside one third of the picture
PLACE_HALF_SHARE = 0.75  # of all motion inside one half
PLACE_CELL_SHARE = 0.04  # every ninth of the picture holds this much when motion is everywhere

COLOUR_LEVELS = 32  # per channel in the lookup table of names
SHADE_MAJORITY = 0.6  # a colour is called dark or light when this share of it is


class UnreadableFrameError(ValueError):
    """A packed frame that cannot be measured; the message says which and why."""


@dataclass(frozen=True)
class ColourShare:
    """A common colour name, with its shade where one prevails, and its share of all pixels in whole percent."""

    name: str
    percent: int


@dataclass(frozen=True)
class Transition:
    """A change of picture between the samples at `start_s` and `end_s` (seconds from the first sample)."""

    kind: TransitionKind
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Span:
    """Seconds from the window's first sample, both ends included."""

    start_s: float
    end_s: float


@dataclass(frozen=True)
class Camera:
    """How the camera moves in a shot.

    moves: one or two moves, the larger first; ("static",) and ("unsteady",) stand alone.
    pan, tilt, zoom: net way over the shot in percent of the picture's longer side (zoom: percent of size); positive is
        right, up, in. Tracking sideways looks like a pan and moving closer like a zoom: pixels cannot tell them apart.
    """

    moves: tuple[CameraMove, ...]
    pan: float
    tilt: float
    zoom: float


@dataclass(frozen=True)
class Shot:
    """The samples between two cuts (or a window's end).

    light: mean luma, 0 to 255. light_change: mean luma of its last third less that of its first third.
    motion: mean share of the picture that moves from sample to sample beside the camera's own move, percent.
    change: share of the picture that differs between its first and last sample, percent; shows motion too slow to
        differ from sample to sample. None when the camera moves or is not known, or when the shot fades.
    camera: None when it cannot be told.
    """

    start_s: float
    end_s: float
    samples: int
    light: int
    light_change: int
    motion: float
    change: float | None
    camera: Camera | None


@dataclass(frozen=True)
class Third:
    """A third of the window's samples: mean luma 0 to 255, moving share in percent (None: no gap), main colour."""

    light: int
    motion: float | None
    colour: str


@dataclass(frozen=True)
class WindowMeasurements:
    """Everything the signal engine knows about a window.

    duration_s: first to last sample, seconds, to 0.1.
    samples: number of frames measured.
    bars: black bars beside the picture, which all other numbers leave out.
    light: mean luma 0 to 255. light_low, light_high: darkest and brightest sample's mean luma.
    highlights: share of pixels with a luma of at least `HIGHLIGHT_LUMA`, percent.
    contrast: standard deviation of luma within a frame, mean over frames, 0 to 127.
    colourfulness: Hasler & Süsstrunk 2003 metric, mean over frames; 0 grey, 33 moderate, 59 quite, 109 extreme.
    detail: mean luma gradient in levels per pixel at the working size; below 4 smooth, above 14 fine detail.
    colours: names by falling share, at least 1 percent each.
    motion: mean share of the picture that moves between neighbouring samples, percent to 0.1; None with one sample.
    motion_peak, motion_peak_s: the largest such share and the middle of its gap.
    place: where most of the motion is, None when it is spread unevenly or there is none.
    transitions, freezes: in time order.
    shots: at least one, in time order. thirds: first, middle, last.
    """

    duration_s: float
    samples: int
    bars: Bars | None
    light: int
    light_low: int
    light_high: int
    highlights: int
    contrast: int
    colourfulness: int
    detail: int
    colours: tuple[ColourShare, ...]
    motion: float | None
    motion_peak: float
    motion_peak_s: float
    place: Place | None
    transitions: tuple[Transition, ...]
    freezes: tuple[Span, ...]
    shots: tuple[Shot, ...]
    thirds: tuple[Third, Third, Third]


def measure_window(frames: PackedFrames) -> WindowMeasurements:
    """Measure one window. Raises `UnreadableFrameError` for a frame that is no JPEG or has another size."""
    times = _times(frames.times_s)
    rgb = _decode(frames)
    rgb, bars = _without_bars(rgb)
    luma = _luma(rgb)
    smooth = _box3(luma)
    gradient = _gradient(smooth)
    light = luma.mean(axis=(1, 2), dtype=np.float64)
    contrast = luma.std(axis=(1, 2), dtype=np.float64)
    names = _name_counts(rgb)

    transitions, blocked, cuts = _transitions(smooth, _histograms(rgb), light, contrast, times)
    steps = _camera_steps(smooth, [(gap, gap + 1) for gap in np.flatnonzero(~blocked).tolist()])
    spans = list(zip([0, *(gap + 1 for gap in cuts)], [*cuts, len(luma) - 1], strict=True))
    cameras = [_camera(smooth, steps, blocked, first, last) for first, last in spans]
    moved = _moved(smooth, gradient, steps, spans, cameras)
    moved_share = moved.mean(axis=(1, 2)) * 100 if len(moved) else np.zeros(0)
    moved_share[blocked] = np.nan
    known = np.flatnonzero(~np.isnan(moved_share))
    peak = int(known[moved_share[known].argmax()]) if len(known) else None
    changes = [
        None if blocked[first:last].any() or (camera and camera.moves != ("static",)) else _changed(smooth, first, last)
        for (first, last), camera in zip(spans, cameras, strict=True)
    ]
    heat = moved[known].sum(axis=0)
    if heat.sum() < len(known) * heat.size * STILL_SHARE:
        heat = np.sum([change for change in changes if change is not None], axis=0)

    return WindowMeasurements(
        duration_s=round(times[-1], 1),
        samples=len(luma),
        bars=bars,
        light=_whole(light.mean()),
        light_low=_whole(light.min()),
        light_high=_whole(light.max()),
        highlights=_whole(100 * (luma >= HIGHLIGHT_LUMA).mean()),
        contrast=_whole(contrast.mean()),
        colourfulness=_whole(_colourfulness(rgb).mean()),
        detail=_whole(gradient.mean()),
        colours=_colours(names.sum(axis=0)),
        motion=None if peak is None else _tenth(moved_share[known].mean()),
        motion_peak=0.0 if peak is None else _tenth(moved_share[peak]),
        motion_peak_s=0.0 if peak is None else _tenth((times[peak] + times[peak + 1]) / 2),
        place=_place(np.asarray(heat)) if peak is not None else None,
        transitions=transitions,
        freezes=_freezes(luma, moved_share, times),
        shots=tuple(
            Shot(
                start_s=_tenth(times[first]),
                end_s=_tenth(times[last]),
                samples=last - first + 1,
                light=_whole(light[first : last + 1].mean()),
                light_change=_light_change(light[first : last + 1]),
                motion=_mean_known(moved_share[first:last]) or 0.0,
                change=None if change is None else _tenth(100 * change.mean()),
                camera=camera,
            )
            for (first, last), camera, change in zip(spans, cameras, changes, strict=True)
        ),
        thirds=_thirds(light, moved_share, names),
    )


# --- pixels -----------------------------------------------------------------------------------------------------------


def _times(times_s: Sequence[float]) -> list[float]:
    """Return seconds from the first sample."""
    if not times_s:
        raise UnreadableFrameError("a window without frames")
    times = [float(t) - float(times_s[0]) for t in times_s]
    if not all(math.isfinite(t) for t in times):
        raise UnreadableFrameError("a frame time is not a finite number")
    for number, (before, after) in enumerate(pairwise(times), start=2):
        if after < before:
            raise UnreadableFrameError(f"frame {number} of {len(times)} is earlier than the frame before it")
    return times


def _decode(frames: PackedFrames) -> Bytes:
    """Return the frames as (n, height, width, 3) RGB, the longer side at least `WORKING_SIDE_PX` where it has that."""
    scale = WORKING_SIDE_PX / max(frames.width, frames.height)
    min_width = min(frames.width, max(WORKING_MIN_PX, math.ceil(frames.width * scale)))
    min_height = min(frames.height, max(WORKING_MIN_PX, math.ceil(frames.height * scale)))
    images: list[Bytes] = []
    for number, jpeg in enumerate(frames.jpegs, start=1):
        where = f"frame {number} of {len(frames.jpegs)}"
        try:
            height, width, _, _ = simplejpeg.decode_jpeg_header(jpeg)
            image = simplejpeg.decode_jpeg(jpeg, "RGB", min_width=min_width, min_height=min_height)
        except (ValueError, TypeError) as error:
            raise UnreadableFrameError(f"{where} is not a JPEG: {error}") from error
        if (width, height) != (frames.width, frames.height):
            raise UnreadableFrameError(f"{where} is {width}x{height}, not {frames.width}x{frames.height}")
        images.append(image)
    return _shrunk(np.stack(images))


def _shrunk(rgb: Bytes) -> Bytes:
    """Average whole blocks until the longer side is below twice `WORKING_SIDE_PX`; JPEG itself scales to an eighth."""
    factor = max(rgb.shape[1:3]) // WORKING_SIDE_PX
    factor = min(factor, min(rgb.shape[1:3]) // WORKING_MIN_PX)
    if factor < 2:
        return rgb
    n, height, width, _ = rgb.shape
    height, width = height // factor * factor, width // factor * factor
    blocks = rgb[:, :height, :width].reshape(n, height // factor, factor, width // factor, factor, 3)
    shrunk: Bytes = (blocks.mean(axis=(2, 4), dtype=np.float32) + 0.5).astype(np.uint8)
    return shrunk


def _luma(rgb: Bytes) -> Floats:
    """Return BT.601 luma (0 to 255) in whole levels: integer arithmetic, equal on every machine."""
    wide = rgb.astype(np.int32)
    luma: Floats = ((77 * wide[..., 0] + 150 * wide[..., 1] + 29 * wide[..., 2] + 128) >> 8).astype(np.float32)
    return luma


def _without_bars(rgb: Bytes) -> tuple[Bytes, Bars | None]:
    """Cut off black bars: equal borders, black in every frame, beside a picture that is not black."""
    brightest = rgb.max(axis=(0, 3))
    lit_rows = np.flatnonzero(brightest.max(axis=1) > 2 * BLACK_LUMA)
    lit_columns = np.flatnonzero(brightest.max(axis=0) > 2 * BLACK_LUMA)
    if not len(lit_rows):
        return rgb, None
    height, width = brightest.shape
    top, bottom = _even_bars(int(lit_rows[0]), height - 1 - int(lit_rows[-1]), height)
    left, right = _even_bars(int(lit_columns[0]), width - 1 - int(lit_columns[-1]), width)
    if top and not left:
        return rgb[:, top + 1 : height - bottom - 1], "above and below"
    if left and not top:
        return rgb[:, :, left + 1 : width - right - 1], "left and right"
    return rgb, None


def _even_bars(before: int, after: int, side: int) -> tuple[int, int]:
    """Return the two bars in pixels, or (0, 0) when they are too thin, too thick or unequal."""
    fits = all(BAR_MIN_SHARE * side <= bar <= BAR_MAX_SHARE * side for bar in (before, after))
    return (before, after) if fits and abs(before - after) <= max(2, 0.02 * side) else (0, 0)


def _box3(images: Floats) -> Floats:
    """Return the mean over 3 x 3 pixels, edges repeated: takes away coding noise."""
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)), mode="edge")
    rows = padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]
    box: Floats = (rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]) * np.float32(1 / 9)
    return box


def _gradient(images: Floats) -> Floats:
    """Return |d/dx| + |d/dy| by central differences, luma levels per pixel; 0 on the border."""
    total = np.zeros_like(images)
    total[:, :, 1:-1] += np.abs(images[:, :, 2:] - images[:, :, :-2])
    total[:, 1:-1] += np.abs(images[:, 2:] - images[:, :-2])
    half: Floats = total * np.float32(0.5)
    return half


# --- colour -----------------------------------------------------------------------------------------------------------

HUES: tuple[str, ...] = (
    "black", "grey", "white", "red", "orange", "brown", "beige", "yellow", "green", "teal", "blue", "purple",
    "magenta", "pink",
)  # fmt: skip
SHADES: tuple[str, ...] = ("dark", "", "light")
LIGHT_TEAL = "turquoise"


def _colourfulness(rgb: Bytes) -> Doubles:
    """Return the colourfulness of each frame after Hasler & Süsstrunk, "Measuring colourfulness in natural images".

    (SPIE 5007, 2003): sqrt(var rg + var yb) + 0.3 sqrt(mean rg ² + mean yb ²), rg = R - G, yb = (R + G) / 2 - B.
    """
    wide = rgb.astype(np.int32)
    rg = wide[..., 0] - wide[..., 1]
    yb2 = wide[..., 0] + wide[..., 1] - 2 * wide[..., 2]
    spread = np.sqrt(rg.var(axis=(1, 2)) + yb2.var(axis=(1, 2)) / 4)
    offset = np.sqrt(rg.mean(axis=(1, 2)) ** 2 + yb2.mean(axis=(1, 2)) ** 2 / 4)
    result: Doubles = spread + 0.3 * offset
    return result


def colour_name(red: int, green: int, blue: int) -> str:
    """Return the common name of an sRGB colour (0 to 255 each), with "dark" or "light" where that fits."""
    index = int(_name_table()[_name_key(np.array([[red, green, blue]], np.uint8))[0]])
    return _shaded(HUES[index // 3], index % 3)


def _shaded(hue: str, shade: int) -> str:
    if hue == "teal" and SHADES[shade] == "light":
        return LIGHT_TEAL
    return f"{SHADES[shade]} {hue}".strip()


def _name_key(rgb: Bytes) -> npt.NDArray[np.int32]:
    wide = (rgb >> 3).astype(np.int32)
    key: npt.NDArray[np.int32] = (wide[..., 0] * COLOUR_LEVELS + wide[..., 1]) * COLOUR_LEVELS + wide[..., 2]
    return key


@cache
def _name_table() -> npt.NDArray[np.uint8]:
    """Return the index 3 * hue + shade for each of 32 x 32 x 32 colours."""
    level = (np.arange(COLOUR_LEVELS) * 255 / (COLOUR_LEVELS - 1)) / 255
    grid = np.stack(np.meshgrid(level, level, level, indexing="ij"), axis=-1).reshape(-1, 3)
    lightness, chroma, hue = _oklch(grid)
    table = [_name_index(*row) for row in zip(lightness.tolist(), chroma.tolist(), hue.tolist(), strict=True)]
    return np.array(table, np.uint8)


def _oklch(srgb: Doubles) -> tuple[Doubles, Doubles, Doubles]:
    """Return lightness 0..1, chroma 0..0.32 and hue in degrees of sRGB colours (0..1, shape (n, 3)) in OKLCH.

    Björn Ottosson, "A perceptual color space for image processing" (2020).
    """
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    to_lms = np.array(
        [
            [0.4122214708, 0.5363325363, 0.0514459929],
            [0.2119034982, 0.6806995451, 0.1073969566],
            [0.0883024619, 0.2817188376, 0.6299787005],
        ]
    )
    to_lab = np.array(
        [
            [0.2104542553, 0.7936177850, -0.0040720468],
            [1.9779984951, -2.4285922050, 0.4505937099],
            [0.0259040371, 0.7827717662, -0.8086757660],
        ]
    )
    lab = np.cbrt(linear @ to_lms.T) @ to_lab.T
    return lab[:, 0], np.hypot(lab[:, 1], lab[:, 2]), np.degrees(np.arctan2(lab[:, 2], lab[:, 1])) % 360


def _name_index(lightness: float, chroma: float, hue: float) -> int:
    """Name a colour by its OKLCH place; the limits lie between the colours that CSS gives these names."""
    if lightness < 0.13 or (lightness < 0.24 and chroma < 0.05):
        return HUES.index("black") * 3 + 1
    if chroma < 0.035:
        if lightness > 0.90:
            return HUES.index("white") * 3 + 1
        return HUES.index("grey") * 3 + (0 if lightness < 0.45 else 2 if lightness > 0.76 else 1)
    name = _hue_name(lightness, chroma, hue)
    if name == "brown":
        shade = 0 if lightness < 0.36 else 1
    elif name == "beige":
        shade = 1
    else:
        shade = 0 if lightness < 0.40 else 2 if lightness > 0.78 and chroma < 0.13 and name != "pink" else 1
    return HUES.index(name) * 3 + shade


def _hue_name(lightness: float, chroma: float, hue: float) -> str:
    if 20 <= hue < 105 and chroma < 0.10 and lightness > 0.70:
        return "pink" if hue < 45 else "beige"
    if 30 <= hue < 107 and lightness < 0.62 and (hue >= 45 or chroma < 0.14):
        return "brown"
    if hue < 45 and hue >= 8:
        return "pink" if lightness > 0.72 else "red"
    limits = ((80, "orange"), (114 if lightness > 0.75 else 107, "yellow"), (167, "green"), (212, "teal"))
    if hue >= 45:
        for limit, name in limits:
            if hue < limit:
                return name
        if hue < 285:
            return "blue"
        if hue < 338:
            return "magenta" if hue > 312 and lightness > 0.6 and chroma > 0.2 else "purple"
    return "pink" if lightness > 0.5 else "purple" if lightness < 0.4 else "red" if hue < 8 else "pink"


def _name_counts(rgb: Bytes) -> Ints:
    """Return pixels per frame and name, shape (n, 3 * len(HUES))."""
    named = _name_table()[_name_key(rgb)]
    return np.stack([np.bincount(frame.ravel(), minlength=3 * len(HUES)) for frame in named])


def _colours(counts: Ints) -> tuple[ColourShare, ...]:
    """Add the shades of each hue, name the shade that prevails, order by share."""
    by_hue = counts.reshape(len(HUES), len(SHADES))
    total = int(counts.sum())
    found: list[tuple[int, ColourShare]] = []
    for hue, shades in zip(HUES, by_hue.tolist(), strict=True):
        pixels = sum(shades)
        percent = round(100 * pixels / total)
        if percent >= 1:
            shade = max(range(3), key=shades.__getitem__)
            prevails = shades[shade] >= SHADE_MAJORITY * pixels
            found.append((-pixels, ColourShare(_shaded(hue, shade if prevails else 1), percent)))
    return tuple(share for _, share in sorted(found, key=lambda item: item[0]))


def _histograms(rgb: Bytes) -> Doubles:
    """Return the share of pixels in each of 4 x 4 x 4 colour boxes, shape (n, 64)."""
    wide = (rgb >> 6).astype(np.int64)
    key = wide[..., 0] * 16 + wide[..., 1] * 4 + wide[..., 2]
    shares: Doubles = np.stack([np.bincount(frame.ravel(), minlength=64) for frame in key]) / key[0].size
    return shares


# --- cuts and fades ---------------------------------------------------------------------------------------------------


def _transitions(
    smooth: Floats, histograms: Doubles, light: Doubles, contrast: Doubles, times: Sequence[float]
) -> tuple[tuple[Transition, ...], npt.NDArray[np.bool_], list[int]]:
    """Find fades, cuts and dissolves.

    Returns them in time order, the gaps they occupy (neither motion nor camera is read there), and the gaps that end
    a shot.
    """
    gaps = len(smooth) - 1
    blocked = np.zeros(gaps, bool)
    found: list[Transition] = []
    cuts: list[int] = []
    for first, last, kind in _fades(smooth, light, contrast):
        found.append(Transition(kind, _tenth(times[first]), _tenth(times[last])))
        blocked[first:last] = True
    difference = _differences(smooth, histograms, 1)
    usual = float(np.median(difference)) if gaps else 0.0
    is_cut = [
        not blocked[gap]
        and difference[gap] >= CUT_DIFFERENCE
        and (difference[gap] >= CUT_OVER_MEDIAN * usual or difference[gap] >= CUT_DIFFERENCE_SURE)
        for gap in range(gaps)
    ]
    gap = 0
    while gap < gaps:
        dissolves = not blocked[gap : gap + 2].any() and _dissolves(smooth, histograms, difference, gap)
        if not (is_cut[gap] or dissolves):
            gap += 1
            continue
        length = 2 if dissolves else 1
        change: TransitionKind = "dissolve" if length == 2 else "cut"
        found.append(Transition(change, _tenth(times[gap]), _tenth(times[gap + length])))
        blocked[gap : gap + length] = True
        cuts.append(gap)
        gap += length
    return tuple(sorted(found, key=lambda transition: transition.start_s)), blocked, cuts


def _dissolves(smooth: Floats, histograms: Doubles, difference: Doubles, gap: int) -> bool:
    """Tell whether the picture of `gap` goes over into another one by a sample that mixes both."""
    if gap + 2 > len(difference) or difference[gap : gap + 2].min() < DISSOLVE_DIFFERENCE:
        return False
    both = slice(gap, gap + 3)
    return _is_blend(*smooth[both]) and bool(_differences(smooth[both], histograms[both], 2)[0] >= CUT_DIFFERENCE)


def _differences(smooth: Floats, histograms: Doubles, apart: int) -> Doubles:
    """Return 0 (equal) to 1 (nothing in common) for samples `apart`: half colour, half structure at its best shift."""
    colour: Doubles = np.abs(histograms[apart:] - histograms[:-apart]).sum(axis=1) / 2
    before, after = smooth[:-apart], smooth[apart:]
    shifts, _ = _phase_correlation(before, after)
    structure = np.array(
        [
            max(_correlation(a, b), _correlation(*_overlap(a, b, dx, dy)))
            for a, b, (dx, dy) in zip(before, after, shifts.tolist(), strict=True)
        ]
    ).reshape(-1)
    weight = CUT_HISTOGRAM_WEIGHT
    result: Doubles = weight * colour + (1 - weight) * (1 - np.clip(structure, 0, 1))
    return result


def _correlation(a: Floats, b: Floats) -> float:
    """Return Pearson's correlation of two pictures; flat ones agree only with flat ones."""
    x, y = a - a.mean(), b - b.mean()
    spread = (float(x.std()), float(y.std()))
    if max(spread) < 1:
        return 1.0
    if min(spread) < 1:
        return 0.0
    return float((x * y).mean()) / (spread[0] * spread[1])


def _overlap(a: Floats, b: Floats, dx: float, dy: float) -> tuple[Floats, Floats]:
    """Return the parts of `a` and `b` that show the same when `b` is `a` moved by whole (dx, dy) pixels."""
    x, y = round(dx), round(dy)
    height, width = a.shape
    if abs(x) > width // 2 or abs(y) > height // 2:
        return a, b
    part_a = a[max(0, -y) : height - max(0, y), max(0, -x) : width - max(0, x)]
    part_b = b[max(0, y) : height - max(0, -y), max(0, x) : width - max(0, -x)]
    return part_a, part_b


def _is_blend(before: Floats, middle: Floats, after: Floats) -> bool:
    """Tell whether `middle` is a mixture of its neighbours (least squares for the one blend factor)."""
    change = after - before
    energy = float((change * change).sum())
    if energy == 0:
        return False
    blend = float(((middle - before) * change).sum()) / energy
    rest = middle - before - np.float32(blend) * change
    low, high = DISSOLVE_BLEND
    unexplained = float((rest * rest).sum()) / (energy * max(blend, 1 - blend) ** 2)
    return low <= blend <= high and unexplained < DISSOLVE_RESIDUAL**2


def _fades(smooth: Floats, light: Doubles, contrast: Doubles) -> list[tuple[int, int, TransitionKind]]:
    """Return (first sample, last sample, kind) of fades from and to a flat black or white picture.

    A fade passes at least one sample on its way that is a weaker copy of the picture; without one it is a cut.
    """
    colours: tuple[tuple[npt.NDArray[np.bool_], TransitionKind, TransitionKind], ...] = (
        ((light <= BLACK_LUMA) & (contrast <= FLAT_CONTRAST), "fade to black", "fade from black"),
        ((light >= WHITE_LUMA) & (contrast <= FLAT_CONTRAST), "fade to white", "fade from white"),
    )
    found: list[tuple[int, int, TransitionKind]] = []
    for flat, fade_out, fade_in in colours:
        for sample in np.flatnonzero(flat).tolist():
            if sample > 0 and not flat[sample - 1]:
                first = _fade_origin(smooth, contrast, sample, -1)
                if abs(first - sample) >= 2:
                    found.append((first, sample, fade_out))
            if sample + 1 < len(flat) and not flat[sample + 1]:
                last = _fade_origin(smooth, contrast, sample, 1)
                if abs(last - sample) >= 2:
                    found.append((sample, last, fade_in))
    return found


def _fade_origin(smooth: Floats, contrast: Doubles, flat: int, step: int) -> int:
    """Walk from a flat sample towards the unfaded picture while contrast grows clearly and the picture is the same."""
    here = flat + step
    while 0 <= here + step < len(smooth):
        grows = contrast[here + step] > 1.1 * contrast[here] + 1
        if not grows or _correlation(smooth[here], smooth[here + step]) < FADE_SIMILARITY:
            break
        here += step
    return here


# --- camera -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Step:
    """A camera model over one gap: content at (x, y) px from the centre moves by (tx + s x - r y, ty + s y + r x)."""

    tx: float
    ty: float
    s: float
    r: float


def _hann(height: int, width: int) -> Floats:
    window: Floats = np.outer(np.hanning(height), np.hanning(width)).astype(np.float32)
    return window


def _phase_correlation(a: Floats, b: Floats) -> tuple[Doubles, Doubles]:
    """Return how far `b` is moved against `a`, as (dx, dy) pixels per picture, and the peak 0..1 (confidence).

    Kuglin & Hines, "The phase correlation image alignment method" (1975): the inverse transform of the normalised
    cross-power spectrum has its peak at the displacement. Hann-windowed against edges, Gaussian low-pass against
    coding noise, a parabola through the neighbours of the peak for the fraction of a pixel. Shapes (n, height, width).
    """
    n, height, width = a.shape
    if n == 0:
        return np.zeros((0, 2)), np.zeros(0)
    window = _hann(height, width)
    spectra = [np.fft.rfft2((x - x.mean(axis=(1, 2), keepdims=True)) * window) for x in (a, b)]
    cross = spectra[1] * np.conj(spectra[0])
    size = np.abs(cross)
    floor = 1e-3 * size.mean(axis=(1, 2), keepdims=True) + 1e-6
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :]
    low_pass = np.exp(-(fx**2 + fy**2) / (2 * 0.2**2)).astype(np.float32)
    surface = np.fft.irfft2(cross / (size + floor) * low_pass, s=(height, width))
    surface /= np.fft.irfft2(low_pass, s=(height, width)).max()
    index = surface.reshape(n, -1).argmax(axis=1)
    y, x = index // width, index % width
    each = np.arange(n)
    peak = surface[each, y, x]
    dx = x + _parabola(surface[each, y, (x - 1) % width], peak, surface[each, y, (x + 1) % width])
    dy = y + _parabola(surface[each, (y - 1) % height, x], peak, surface[each, (y + 1) % height, x])
    dx = np.where(dx > width / 2, dx - width, dx)
    dy = np.where(dy > height / 2, dy - height, dy)
    return np.stack([dx, dy], axis=1).astype(np.float64), peak.astype(np.float64)


def _parabola(left: Floats, peak: Floats, right: Floats) -> Doubles:
    """Return the place of the vertex of the parabola through three equidistant values, -0.5 to 0.5."""
    bend = left - 2 * peak + right
    safe = np.where(np.abs(bend) < 1e-9, -1.0, bend)
    vertex: Doubles = np.where(np.abs(bend) < 1e-9, 0.0, np.clip(0.5 * (left - right) / safe, -0.5, 0.5))
    return vertex


def _camera_steps(
    smooth: Floats, pairs: Sequence[tuple[int, int]], tolerance_px: float = STEP_TOLERANCE_PX
) -> dict[tuple[int, int], _Step]:
    """Return the camera's step between the two samples of each pair; pairs that do not tell are left out.

    Each pair is tried twice, with the pictures as they are and moved by the step of the whole picture, so that the
    tiles need to find only the rest; the reading that more tiles agree on is taken.
    """
    height, width = smooth.shape[1:]
    if min(height, width) < TILE_PX or not pairs:
        return {}
    corners = _tile_corners(height, width)
    whole, confidence = _phase_correlation(smooth[[a for a, _ in pairs]], smooth[[b for _, b in pairs]])
    centres = corners + (TILE_PX - 1) / 2 - np.array([(width - 1) / 2, (height - 1) / 2])
    jobs = [_Job(pair, 0, 0) for pair in pairs]
    for pair, (dx, dy), sure in zip(pairs, np.rint(whole).astype(int).tolist(), confidence.tolist(), strict=True):
        if sure >= PHASE_PEAK_WHOLE and max(abs(dx), abs(dy)) >= 2:
            jobs.append(_Job(pair, dx, dy))
    tiles_a, tiles_b, where = _tiles(smooth, corners, jobs)
    textured = _texture(tiles_a) >= TILE_TEXTURE
    shift, peak = _phase_correlation(tiles_a, tiles_b)
    found: dict[tuple[int, int], tuple[float, _Step]] = {}
    for number, job in enumerate(jobs):
        chosen = np.flatnonzero((where[:, 0] == number) & textured)
        sure_ones = chosen[peak[chosen] >= PHASE_PEAK]
        fit = _agree(centres[where[sure_ones, 1]], shift[sure_ones] + (job.dx, job.dy), len(chosen), tolerance_px)
        if fit is not None and (job.pair not in found or fit[0] > found[job.pair][0]):
            found[job.pair] = fit
    return {pair: step for pair, (_, step) in found.items()}


@dataclass(frozen=True)
class _Job:
    """Two samples whose tiles are compared, those of the later one taken (dx, dy) pixels further."""

    pair: tuple[int, int]
    dx: int
    dy: int


def _tile_corners(height: int, width: int) -> Doubles:
    """Return the (x, y) corners of overlapping tiles that cover the picture, shape (tiles, 2)."""
    columns, rows = (
        np.round(np.linspace(0, side - TILE_PX, max(2, round((side - TILE_PX) / TILE_STEP_PX) + 1)))
        for side in (width, height)
    )
    return np.stack(np.meshgrid(columns, rows), axis=-1).reshape(-1, 2)


def _tiles(smooth: Floats, corners: Doubles, jobs: Sequence[_Job]) -> tuple[Floats, Floats, Ints]:
    """Cut each job's tiles out of both samples, where both lie inside. Returns also (job, tile) of each."""
    height, width = smooth.shape[1:]
    view = np.lib.stride_tricks.sliding_window_view(smooth, (TILE_PX, TILE_PX), axis=cast("Any", (1, 2)))
    pieces_a: list[Floats] = []
    pieces_b: list[Floats] = []
    where: list[tuple[int, int]] = []
    at = corners.astype(np.int64)
    for number, job in enumerate(jobs):
        x, y = at[:, 0] + job.dx, at[:, 1] + job.dy
        inside = np.flatnonzero((x >= 0) & (y >= 0) & (x <= width - TILE_PX) & (y <= height - TILE_PX))
        pieces_a.append(view[job.pair[0], at[inside, 1], at[inside, 0]])
        pieces_b.append(view[job.pair[1], y[inside], x[inside]])
        where.extend((number, tile) for tile in inside.tolist())
    return np.concatenate(pieces_a), np.concatenate(pieces_b), np.array(where, np.int64).reshape(-1, 2)


def _texture(tiles: Floats) -> Doubles:
    """Return the smaller eigenvalue of the mean gradient tensor (Shi & Tomasi 1994): 0 for flat areas and edges."""
    gx = (tiles[:, 1:-1, 2:] - tiles[:, 1:-1, :-2]) / 2
    gy = (tiles[:, 2:, 1:-1] - tiles[:, :-2, 1:-1]) / 2
    xx, yy, xy = ((p * q).mean(axis=(1, 2), dtype=np.float64) for p, q in ((gx, gx), (gy, gy), (gx, gy)))
    smaller: Doubles = (xx + yy) / 2 - np.sqrt(((xx - yy) / 2) ** 2 + xy**2)
    return smaller


def _agree(places: Doubles, shifts: Doubles, textured: int, tolerance_px: float) -> tuple[float, _Step] | None:
    """Find the camera model that most tiles follow: every pair of tiles proposes one, the best is fitted again.

    places: (tiles, 2) px from the picture's centre; shifts: (tiles, 2) px. Returns the share of the `textured` tiles
    that follow and the model, None below `CAMERA_MIN_AGREEMENT` or when the followers do not surround the picture.
    """
    if len(places) < CAMERA_MIN_TILES:
        return None
    design = _design(places)
    first, second = np.triu_indices(len(places), 1)
    apart = np.abs(places[first] - places[second]).max(axis=1) >= TILE_PX
    first, second = first[apart], second[apart]
    p, u = places[:, 0] + 1j * places[:, 1], shifts[:, 0] + 1j * shifts[:, 1]
    scale = (u[second] - u[first]) / (p[second] - p[first])
    offset = u[first] - scale * p[first]
    models = np.stack([offset.real, offset.imag, scale.real, scale.imag], axis=1)
    models = np.concatenate([np.zeros((1, 4)), models[np.abs(models[:, 2:]).max(axis=1) <= MAX_ZOOM_STEP]])
    flat = shifts.reshape(-1)
    follows = np.hypot(*np.moveaxis((models @ design.T - flat).reshape(len(models), -1, 2), 2, 0)) <= tolerance_px
    votes = follows.sum(axis=1)
    best = 0 if votes[0] >= 0.9 * votes.max() else int(votes.argmax())
    chosen = follows[best]
    share = float(votes[best]) / textured
    quadrants = {(x > 0, y > 0) for x, y in places[chosen].tolist()}
    if share < CAMERA_MIN_AGREEMENT or votes[best] < CAMERA_MIN_TILES or len(quadrants) < CAMERA_MIN_QUADRANTS:
        return None
    both = np.repeat(chosen, 2)
    tx, ty, s, r = np.linalg.lstsq(design[both], flat[both], rcond=None)[0].tolist()
    return share, _Step(tx, ty, s, r)


def _design(places: Doubles) -> Doubles:
    """Return the matrix that maps (tx, ty, s, r) to the interleaved x and y steps of `places`."""
    x, y = places[:, 0], places[:, 1]
    one, zero = np.ones_like(x), np.zeros_like(x)
    return np.stack([np.stack([one, zero, x, -y], axis=1), np.stack([zero, one, y, x], axis=1)], axis=1).reshape(-1, 4)


def _camera(
    smooth: Floats,
    steps: dict[tuple[int, int], _Step],
    blocked: npt.NDArray[np.bool_],
    first: int,
    last: int,
) -> Camera | None:
    """Sum the steps from sample `first` to `last` up to moves. None when too few gaps were explained."""
    gaps = last - first - int(blocked[first:last].sum())
    known = [step for gap in range(first, last) if (step := steps.get((gap, gap + 1))) is not None]
    if len(known) < 2 or len(known) < CAMERA_MIN_KNOWN * gaps:
        return None
    side = max(smooth.shape[1:])
    whole = gaps / len(known)
    ways = np.array([_ways(step, side) for step in known])
    net = ways.sum(axis=0) * whole
    path = np.abs(np.where(np.abs(ways) < STATIC_STEP, 0, ways)).sum(axis=0) * whole
    moves = _moves(net, path, gaps)
    if not moves:
        return None
    if moves not in (("static",), ("unsteady",)) and not _confirmed(smooth, blocked, first, last, net):
        return None
    pan, tilt, zoom = (_tenth(100 * value) for value in net.tolist())
    return Camera(moves, pan, tilt, _tenth(2 * zoom))


def _ways(step: _Step, side: int) -> tuple[float, float, float]:
    """Return a step's pan, tilt and zoom as shares of the longer side.

    Positive is right, up, in: against the content for pan and tilt. A zoom moves the border by half its size.
    """
    return -step.tx / side, step.ty / side, step.s / 2


def _confirmed(smooth: Floats, blocked: npt.NDArray[np.bool_], first: int, last: int, net: Doubles) -> bool:
    """Look at a move again between samples far apart: water and leaves drift like a camera for one step, not for many.

    The main axis of the move must show, with about its expected size, in most of a few pairs.
    """
    side, gaps = max(smooth.shape[1:]), last - first
    axis = int(np.abs(net).argmax())
    reach = min(gaps, max(1, math.ceil(CONFIRM_PX / (abs(float(net[axis])) * side / gaps))))
    if reach == 1:
        return True
    starts = sorted({round(first + part * (gaps - reach) / (CONFIRM_PAIRS - 1)) for part in range(CONFIRM_PAIRS)})
    pairs = [(start, start + reach) for start in starts if not blocked[start : start + reach].any()]
    steps = _camera_steps(smooth, pairs, CONFIRM_TOLERANCE_PX)
    if len(steps) <= len(pairs) / 2:
        return False
    seen = sum(_ways(step, side)[axis] for step in steps.values()) / len(steps) * gaps / reach
    return bool(abs(seen / float(net[axis]) - 1) <= CONFIRM_SHARE)


def _moves(net: Doubles, path: Doubles, gaps: int) -> tuple[CameraMove, ...]:
    """Name the moves (pan, tilt, zoom as shares of the side) that stand out, the largest first, at most two."""
    names: tuple[tuple[CameraMove, CameraMove], ...] = (
        ("pans right", "pans left"),
        ("tilts up", "tilts down"),
        ("zooms in", "zooms out"),
    )
    if path.sum() <= STATIC_PATH and np.abs(net).max() <= STATIC_PATH:
        return ("static",)
    size = np.abs(net)
    deliberate = (size >= MOVE_NET) & (size >= MOVE_STEADINESS * path) & (size >= SECOND_MOVE * size.max())
    if deliberate.any():
        order = [int(axis) for axis in np.argsort(-size, kind="stable") if deliberate[axis]][:2]
        return tuple(names[axis][0 if net[axis] > 0 else 1] for axis in order)
    if path.max() >= UNSTEADY_PATH * gaps and size.max() < 0.5 * path.max() and gaps >= 4:
        return ("unsteady",)
    return ()


# --- motion -----------------------------------------------------------------------------------------------------------


def _moved(
    smooth: Floats,
    gradient: Floats,
    steps: dict[tuple[int, int], _Step],
    spans: Sequence[tuple[int, int]],
    cameras: Sequence[Camera | None],
) -> npt.NDArray[np.bool_]:
    """Return which pixels change over each gap, the camera's own step taken out where it is known."""
    height, width = smooth.shape[1:]
    moved = np.zeros((len(smooth) - 1, height, width), bool)
    for (first, last), camera in zip(spans, cameras, strict=True):
        known = [step for gap in range(first, last) if (step := steps.get((gap, gap + 1))) is not None]
        moves = camera is not None and camera.moves != ("static",)
        # One rule for a whole shot: followed and unfollowed gaps cannot be compared with each other.
        follow = known and (moves or sum(_border_step(step, width) for step in known) >= FOLLOW_PX * len(known))
        for gap in range(first, last):
            step = steps.get((gap, gap + 1))
            if follow and step is not None:
                later, inside = _warped(smooth[gap + 1], step)
                moved[gap] = _differs(smooth[gap], later, gradient[gap], MOVED_GRADIENT_FOLLOWED_PX) & inside
            else:
                moved[gap] = _differs(smooth[gap], smooth[gap + 1], gradient[gap], MOVED_GRADIENT_PX)
    return moved


def _border_step(step: _Step, width: int) -> float:
    """Return how far a step moves the picture's border at most, in pixels."""
    return math.hypot(step.tx, step.ty) + math.hypot(step.s, step.r) * width / 2


def _differs(here: Floats, later: Floats, gradient: Floats, tolerance_px: float) -> npt.NDArray[np.bool_]:
    """Return which pixels differ by more than coding noise and a displacement of `tolerance_px`."""
    differs: npt.NDArray[np.bool_] = np.abs(later - here) > MOVED_LUMA + np.float32(tolerance_px) * gradient
    return differs


def _changed(smooth: Floats, first: int, last: int) -> npt.NDArray[np.bool_]:
    return _differs(smooth[first], smooth[last], np.zeros_like(smooth[first]), 0.0)


def _warped(later: Floats, step: _Step) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Bring the later picture back to where the camera was (bilinear), and say which pixels it still shows."""
    height, width = later.shape
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    cx, cy = np.float32((width - 1) / 2), np.float32((height - 1) / 2)
    u = x + np.float32(step.tx) + np.float32(step.s) * (x - cx) - np.float32(step.r) * (y - cy)
    v = y + np.float32(step.ty) + np.float32(step.s) * (y - cy) + np.float32(step.r) * (x - cx)
    inside = (u >= 0) & (v >= 0) & (u <= width - 1) & (v <= height - 1)
    u, v = np.clip(u, 0, width - 1.001), np.clip(v, 0, height - 1.001)
    left, top = u.astype(np.intp), v.astype(np.intp)
    fx, fy = u - left, v - top
    above = later[top, left] * (1 - fx) + later[top, left + 1] * fx
    below = later[top + 1, left] * (1 - fx) + later[top + 1, left + 1] * fx
    warped: Floats = above * (1 - fy) + below * fy
    return warped, inside


def _place(heat: npt.NDArray[np.int64]) -> Place | None:
    """Say where most of the motion is: a third or half of the picture each way, or everywhere."""
    total = int(heat.sum())
    if total == 0:
        return None
    rows, columns = heat.sum(axis=1) / total, heat.sum(axis=0) / total
    across = [float(part.sum()) for part in np.array_split(columns, 3)]
    down = [float(part.sum()) for part in np.array_split(rows, 3)]
    column = next((i for i in range(3) if across[i] >= PLACE_THIRD_SHARE), None)
    row = next((i for i in range(3) if down[i] >= PLACE_THIRD_SHARE), None)
    names: tuple[tuple[Place, Place, Place], ...] = (
        ("upper left", "top", "upper right"),
        ("left", "centre", "right"),
        ("lower left", "bottom", "lower right"),
    )
    if column is not None and row is not None:
        return names[row][column]
    if column in (0, 2):
        return names[1][column]
    if row in (0, 2):
        return names[row][1]
    left, upper = float(columns[: len(columns) // 2].sum()), float(rows[: len(rows) // 2].sum())
    halves: tuple[tuple[float, Place], ...] = (
        (left, "left half"), (1 - left, "right half"), (upper, "upper half"), (1 - upper, "lower half"),
    )  # fmt: skip
    share, half = max(halves, key=lambda item: item[0])
    if share >= PLACE_HALF_SHARE:
        return half
    cells = [float(cell.sum()) / total for band in np.array_split(heat, 3) for cell in np.array_split(band, 3, axis=1)]
    return "everywhere" if min(cells) >= PLACE_CELL_SHARE else None


def _freezes(luma: Floats, moved_share: Doubles, times: Sequence[float]) -> tuple[Span, ...]:
    """Return the spans in which one picture stands still, when the rest of the window does not."""
    gaps = len(luma) - 1
    same = [
        bool(moved_share[gap] == 0) and float(np.abs(luma[gap + 1] - luma[gap]).mean()) < FREEZE_LUMA
        for gap in range(gaps)
    ]
    if all(same):
        return ()
    found: list[Span] = []
    start: int | None = None
    for gap, frozen in enumerate([*same, False]):
        if frozen and start is None:
            start = gap
        elif not frozen and start is not None:
            if times[gap] - times[start] >= FREEZE_MIN_S:
                found.append(Span(_tenth(times[start]), _tenth(times[gap])))
            start = None
    return tuple(found)


# --- over time --------------------------------------------------------------------------------------------------------


def _light_change(light: Doubles) -> int:
    third = max(1, len(light) // 3)
    return _whole(light[-third:].mean() - light[:third].mean())


def _thirds(light: Doubles, moved_share: Doubles, names: Ints) -> tuple[Third, Third, Third]:
    bounds = [round(part * len(light) / 3) for part in range(4)]
    parts: list[Third] = []
    for start, end in pairwise(bounds):
        first, last = min(start, len(light) - 1), max(start + 1, end)
        parts.append(
            Third(
                light=_whole(light[first:last].mean()),
                motion=_mean_known(moved_share[first:last]),
                colour=_colours(names[first:last].sum(axis=0))[0].name,
            )
        )
    return parts[0], parts[1], parts[2]


def _mean_known(shares: Doubles) -> float | None:
    known = shares[~np.isnan(shares)]
    return _tenth(known.mean()) if len(known) else None


def _whole(value: float | np.float32 | np.float64) -> int:
    return round(float(value))


def _tenth(value: float | np.float32 | np.float64) -> float:
    return round(float(value), 1) + 0.0
