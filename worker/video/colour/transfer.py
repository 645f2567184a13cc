"""Transfer functions: from the codes of a picture to light, and the tone mapping of bright light (HDR)."""

from __future__ import annotations

import numpy as np
from av.video.reformatter import ColorTrc
from numpy.typing import NDArray

__all__ = ["WHITE_NITS", "map_tones", "to_codes", "to_light"]

Values = NDArray[np.float64]

#: The brightness in cd/m² (nits) of white in a picture that is not HDR (ITU-R BT.2408, "reference white").
WHITE_NITS = 203.0
#: The peak of HLG on the reference display (ITU-R BT.2100), and of PQ codes.
HLG_NITS, PQ_NITS = 1000.0, 10_000.0
#: The exponent of the reference display (ITU-R BT.1886).
GAMMA = 2.4
#: BT.2020's weights of red, green and blue in brightness.
_WEIGHTS = np.array([0.2627, 0.6780, 0.0593])
#: The constants of PQ (SMPTE ST 2084) and of HLG (ARIB STD-B67).
_M1, _M2, _C1, _C2, _C3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
_A, _B, _C = 0.17883277, 0.28466892, 0.55991073


def to_light(codes: Values, transfer: int) -> Values:
    """Return the light (…,3) of RGB `codes` (…,3) in 0..1. Light of 1 is `WHITE_NITS`.

    The functions are those of ITU-T H.273, as a display shows them.
    """
    match transfer:
        case ColorTrc.SMPTE2084:
            return _from_pq(codes) / WHITE_NITS
        case ColorTrc.ARIB_STD_B67:
            scene = np.where(codes <= 0.5, codes**2 / 3, (np.exp((codes - _C) / _A) + _B) / 12)
            brightness = (scene @ _WEIGHTS)[..., None]
            return np.asarray(scene * brightness**0.2 * (HLG_NITS / WHITE_NITS))
        case ColorTrc.LINEAR:
            return codes
        case ColorTrc.LOG:
            return np.where(codes > 0, 10 ** (2 * (codes - 1)), 0)
        case ColorTrc.LOG_SQRT:
            return np.where(codes > 0, 10 ** (2.5 * (codes - 1)), 0)
        case ColorTrc.SMPTE428:
            return np.asarray(codes**2.6 * (52.37 / 48))
    return np.asarray(codes**GAMMA)


def to_codes(light: Values) -> Values:
    """Return the codes with which the reference display shows `light`. Those of light in 0..1 are in 0..1."""
    return np.sign(light) * np.abs(light) ** (1 / GAMMA)


def map_tones(light: Values, peak_nits: float) -> Values:
    """Darken the light (…,3) of an HDR picture so that `peak_nits` becomes white, and keep the hues.

    This is the roll-off of ITU-R BT.2390-12, section 5.4.1 (EETF), without its lift of black. It is applied
    to the largest of red, green and blue. At a peak of 1000 nits, light under 92 nits stays as it is.
    """
    brightest = light.max(axis=-1, keepdims=True)
    peak = _to_pq(np.array(peak_nits))
    source = (_to_pq(brightest * WHITE_NITS) / peak).clip(0, 1)
    largest = float(_to_pq(np.array(WHITE_NITS)) / peak)
    knee = 1.5 * largest - 0.5
    t = ((source - knee) / max(1 - knee, 1e-9)).clip(0, 1)
    rolled = (
        (2 * t**3 - 3 * t**2 + 1) * knee
        + (t**3 - 2 * t**2 + t) * (1 - knee)
        + (-2 * t**3 + 3 * t**2) * largest
    )
    target = _from_pq(np.where(source < knee, source, rolled) * peak) / WHITE_NITS
    return np.asarray(light * np.divide(target, brightest, out=np.zeros_like(target), where=brightest > 0))


def _from_pq(codes: Values) -> Values:
    root = codes ** (1 / _M2)
    return np.asarray(PQ_NITS * (np.maximum(root - _C1, 0) / (_C2 - _C3 * root)) ** (1 / _M1))


def _to_pq(nits: Values) -> Values:
    power = (nits / PQ_NITS) ** _M1
    return np.asarray(((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2)
