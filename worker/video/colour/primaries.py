"""The primary colours of pictures, and the conversion of light from one set of them to another."""

from __future__ import annotations

import numpy as np
from av.video.reformatter import ColorPrimaries
from numpy.typing import NDArray

__all__ = ["brightness_weights", "to_bt709"]

Matrix3 = NDArray[np.float64]

_D65, _C, _E, _DCI = (0.3127, 0.3290), (0.310, 0.316), (1 / 3, 1 / 3), (0.314, 0.351)
#: The chromaticities (x, y) of red, green, blue and white, from ITU-T H.273, table 2.
_CHROMATICITIES = {
    ColorPrimaries.BT709: ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060), _D65),
    ColorPrimaries.BT470M: ((0.670, 0.330), (0.210, 0.710), (0.140, 0.080), _C),
    ColorPrimaries.BT470BG: ((0.640, 0.330), (0.290, 0.600), (0.150, 0.060), _D65),
    ColorPrimaries.SMPTE170M: ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070), _D65),
    ColorPrimaries.SMPTE240M: ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070), _D65),
    ColorPrimaries.FILM: ((0.681, 0.319), (0.243, 0.692), (0.145, 0.049), _C),
    ColorPrimaries.BT2020: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046), _D65),
    ColorPrimaries.SMPTE428: ((1.0, 0.0), (0.0, 1.0), (0.0, 0.0), _E),
    ColorPrimaries.SMPTE431: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), _DCI),
    ColorPrimaries.SMPTE432: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), _D65),
    ColorPrimaries.EBU3213: ((0.630, 0.340), (0.295, 0.605), (0.155, 0.077), _D65),
}
#: From XYZ to the responses of the eye's cones, in which whites are adapted (Bradford).
_CONES = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


def to_bt709(primaries: int) -> Matrix3:
    """Return the matrix from light of these primaries to light of BT.709's. White stays white."""
    source, target = _chromaticities(primaries), _CHROMATICITIES[ColorPrimaries.BT709]
    ratio = (_CONES @ _xyz(*target[3])) / (_CONES @ _xyz(*source[3]))
    adaptation = np.linalg.inv(_CONES) @ np.diag(ratio) @ _CONES
    return np.asarray(np.linalg.inv(_to_xyz(*target)) @ adaptation @ _to_xyz(*source))


def brightness_weights(primaries: int) -> tuple[float, float]:
    """Return the weights of red and of blue in the brightness (Y) of a picture with these primaries."""
    red, _, blue = _to_xyz(*_chromaticities(primaries))[1]
    return float(red), float(blue)


def _chromaticities(primaries: int) -> tuple[tuple[float, float], ...]:
    known = primaries in _CHROMATICITIES
    return _CHROMATICITIES[ColorPrimaries(primaries) if known else ColorPrimaries.BT709]


def _to_xyz(*chromaticities: tuple[float, float]) -> Matrix3:
    """Return the matrix from RGB to XYZ in which RGB of (1, 1, 1) is white with Y = 1."""
    *colours, white = (_xyz(*xy) if xy[1] else np.array([xy[0], 0, 1 - xy[0]]) for xy in chromaticities)
    columns = np.stack(colours, axis=1)
    return columns * np.linalg.solve(columns, white)


def _xyz(x: float, y: float) -> NDArray[np.float64]:
    return np.array([x / y, 1.0, (1 - x - y) / y])
