"""From the light of HDR and wide-gamut video to 8-bit BT.709 pictures.

Light is display light, in multiples of the white of SDR: 203 cd/m2 of an HDR picture (ITU-R BT.2408, table 1) become
the brightest white an SDR picture has. The result is coded for the reference display of SDR (ITU-R BT.1886, gamma 2.4
and no light at black), as the samples of BT.709 video are.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

PQ, HLG = 16, 18
"""Transfer characteristics, ISO/IEC 23091-2: SMPTE ST 2084 and ARIB STD-B67."""

BT2020 = 9
"""Primaries, ISO/IEC 23091-2."""

SDR_WHITE_NITS = 203.0
NOMINAL_PEAK_NITS = 1000.0
"""Of HLG (ITU-R BT.2100, table 5), and of PQ that does not say how bright it is."""

MAX_PQ_NITS = 10000.0

D65 = (0.3127, 0.3290)
DCI_WHITE = (0.314, 0.351)
BT709_CHROMATICITIES = ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060))
WIDE_GAMUTS = {
    BT2020: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046), D65),
    11: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), DCI_WHITE),
    12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), D65),
}
"""Primaries that reach far beyond BT.709: x, y of red, green, blue and white.

ITU-R BT.2020, table 3; SMPTE RP 431-2 (DCI-P3); SMPTE EG 432-1 (Display P3).
"""

_STRIP_PIXELS = 8192
"""Done at once: what lies between the steps stays in the cache of a core, which takes half the time."""

_STEPS = 4095
"""Of the tables over light. They are spaced by its square root, in which both ends of the scale are smooth."""


def needs_tone(transfer: int, primaries: int) -> bool:
    """Tell whether a picture with these code points of ISO/IEC 23091-2 is more than an SDR display shows."""
    return transfer in (PQ, HLG) or primaries in WIDE_GAMUTS


def to_sdr(
    coded: NDArray[np.uint16], transfer: int, primaries: int, peak_nits: float = NOMINAL_PEAK_NITS
) -> NDArray[np.uint8]:
    """Return the BT.709 picture of a picture in HDR, in wide gamut, or both.

    Highlights above about a tenth of the peak are compressed with the curve of ITU-R BT.2390, section 5.4.1, by the
    brightest of the three components, so that hues stay; colours outside BT.709 are clipped to its border.

    Args:
        coded: non-linear R'G'B' of full range, shape (height, width, 3).
        transfer: PQ and HLG are HDR, all others SDR.
        primaries: those of `WIDE_GAMUTS`; HDR with others, except BT.709 itself, is BT.2020.
        peak_nits: the brightest light of the picture, cd/m2; of PQ only.

    Returns:
        Shape (height, width, 3).
    """
    if transfer == HLG:
        peak_nits = NOMINAL_PEAK_NITS
    if transfer in (PQ, HLG) and primaries not in (1, *WIDE_GAMUTS):
        primaries = BT2020
    height, width, _ = coded.shape
    picture = np.empty(coded.shape, np.uint8)
    rows = max(1, _STRIP_PIXELS // width)
    for top in range(0, height, rows):
        strip = slice(top, top + rows)
        picture[strip] = _strip_to_sdr(coded[strip], transfer, primaries, peak_nits)
    return picture


def _strip_to_sdr(coded: NDArray[np.uint16], transfer: int, primaries: int, peak_nits: float) -> NDArray[np.uint8]:
    pixels = coded.reshape(-1, 3)
    if transfer == PQ:
        light = _pq_light().take(pixels)
    elif transfer == HLG:
        light = _hlg_display_light(_hlg_scene_light().take(pixels))
    else:
        light = _sdr_light().take(pixels)
    if primaries in WIDE_GAMUTS:
        light = light @ _to_bt709(primaries).T
        np.maximum(light, 0, out=light)
    if transfer in (PQ, HLG):
        light *= _gain(light, peak_nits)
    return _encoded(light).reshape(coded.shape)


def bt2390_eetf(nits: NDArray[np.float64], peak_nits: float, target_nits: float) -> NDArray[np.float64]:
    """Return the light a display of `target_nits` shows for `nits` of a picture of `peak_nits`.

    ITU-R BT.2390, section 5.4.1, with black at no light: the identity up to a knee, then a Hermite spline, all in PQ.
    """
    if peak_nits <= target_nits:
        return np.minimum(nits, target_nits)
    top = pq_encode(np.array(peak_nits))
    level = np.minimum(pq_encode(nits) / top, 1)
    most = float(pq_encode(np.array(target_nits)) / top)
    knee = 1.5 * most - 0.5
    t = np.maximum(level - knee, 0) / (1 - knee)
    spline = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (-2 * t**3 + 3 * t**2) * most
    return pq_decode(np.where(level < knee, level, spline) * top)


def pq_decode(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return cd/m2 of a PQ signal of 0 to 1 (ITU-R BT.2100, table 4)."""
    root = np.asarray(signal) ** (32 / 2523)
    light = np.maximum(root - 3424 / 4096, 0) / (2413 / 128 - 2392 / 128 * root)
    return MAX_PQ_NITS * light ** (16384 / 2610)


def pq_encode(nits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the PQ signal, 0 to 1, of cd/m2 (ITU-R BT.2100, table 4)."""
    power = (np.asarray(nits) / MAX_PQ_NITS) ** (2610 / 16384)
    return ((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 / 32)


def hlg_decode(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return scene light, 0 to 1, of an HLG signal of 0 to 1 (ITU-R BT.2100, table 5)."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    signal = np.asarray(signal)
    return np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)


def _hlg_display_light(scene: NDArray[np.float32]) -> NDArray[np.float32]:
    """Apply the system gamma of a display of 1,000 cd/m2, which is 1.2 (ITU-R BT.2100, table 5)."""
    luminance = scene @ np.array([[0.2627], [0.6780], [0.0593]], np.float32)
    gain = np.power(luminance, np.float32(0.2)) * np.float32(NOMINAL_PEAK_NITS / SDR_WHITE_NITS)
    return scene * gain


def _gain(light: NDArray[np.float32], peak_nits: float) -> NDArray[np.float32]:
    """Return what each pixel's light is multiplied with, shape (pixels, 1)."""
    brightest = np.maximum(np.maximum(light[..., 0], light[..., 1]), light[..., 2])
    np.sqrt(brightest, out=brightest)
    brightest *= np.float32(_STEPS / np.sqrt(MAX_PQ_NITS / SDR_WHITE_NITS))
    brightest += np.float32(0.5)
    gains: NDArray[np.float32] = _gains(peak_nits).take(brightest.astype(np.uint16), mode="clip")
    return gains[..., None]


def _encoded(light: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the signal that a BT.1886 display turns into `light`; above 1 is white. Overwrites `light`."""
    np.sqrt(light, out=light)
    light *= np.float32(_STEPS)
    light += np.float32(0.5)
    return _codes().take(light.astype(np.uint16), mode="clip")


@lru_cache(maxsize=1)
def _pq_light() -> NDArray[np.float32]:
    return (pq_decode(np.arange(65536) / 65535) / SDR_WHITE_NITS).astype(np.float32)


@lru_cache(maxsize=1)
def _hlg_scene_light() -> NDArray[np.float32]:
    return hlg_decode(np.arange(65536) / 65535).astype(np.float32)


@lru_cache(maxsize=1)
def _sdr_light() -> NDArray[np.float32]:
    return ((np.arange(65536) / 65535) ** 2.4).astype(np.float32)


@lru_cache(maxsize=1)
def _codes() -> NDArray[np.uint8]:
    return np.round(255 * (np.arange(_STEPS + 1) / _STEPS) ** (2 / 2.4)).astype(np.uint8)


@lru_cache(maxsize=16)
def _gains(peak_nits: float) -> NDArray[np.float32]:
    nits = (np.arange(_STEPS + 1) / _STEPS) ** 2 * MAX_PQ_NITS
    nits[0] = 1e-6  # its gain is the limit at black, which is 1
    return (bt2390_eetf(nits, peak_nits, SDR_WHITE_NITS) / nits).astype(np.float32)


@lru_cache(maxsize=len(WIDE_GAMUTS))
def _to_bt709(primaries: int) -> NDArray[np.float32]:
    """Return the matrix from linear RGB of these primaries to that of BT.709, white to white."""
    *corners, white = WIDE_GAMUTS[primaries]
    # DCI's white is not D65, yet is meant to look white: XYZ is scaled from one to the other.
    wide, narrow = _to_xyz(corners, white), _to_xyz(BT709_CHROMATICITIES, D65)
    adapt = np.diag(_xyz(D65) / _xyz(white))
    return (np.linalg.inv(narrow) @ adapt @ wide).astype(np.float32)


def _to_xyz(corners: Sequence[tuple[float, float]], white: tuple[float, float]) -> NDArray[np.float64]:
    """SMPTE RP 177, section 3: the matrix from linear RGB to XYZ."""
    columns = np.stack([_xyz(corner) for corner in corners], axis=1)
    return columns * np.linalg.solve(columns, _xyz(white))


def _xyz(chromaticity: tuple[float, float]) -> NDArray[np.float64]:
    x, y = chromaticity
    return np.array([x / y, 1.0, (1 - x - y) / y])
