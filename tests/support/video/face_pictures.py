"""Pictures with faces, made of one frame of the carphone clip.

The program that writes the reference values imports this module too, in an environment without Stoker.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["CLIP_FRAMES", "face_pictures"]

#: Frames of the carphone clip whose landmarks the reference also has.
CLIP_FRAMES = (0, 40, 80, 119)
_FRAME = Path(__file__).parents[2] / "fixtures" / "selfie_reference.npz"


def face_pictures() -> dict[str, NDArray[np.uint8]]:
    """Return pictures (H,W,3) uint8 RGB by name: with a face as it is, turned, cut off, and twice."""
    frame = np.load(_FRAME)["frame"]
    return {
        "upright": frame,
        "turned": _turned(frame, 30),
        "upside_down": np.ascontiguousarray(frame[::-1, ::-1]),
        "cut_off": np.ascontiguousarray(frame[44:, 60:]),
        "pair": np.concatenate((frame, frame[:, ::-1]), 1),
    }


def _turned(frame: NDArray[np.uint8], degrees: float) -> NDArray[np.uint8]:
    """Turn the frame about its centre, without interpolation. What comes from outside of it is black."""
    height, width = frame.shape[:2]
    y, x = np.indices((height, width)) - np.array([height, width]).reshape(2, 1, 1) / 2
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    row = np.floor(cosine * y - sine * x + height / 2).astype(int)
    column = np.floor(sine * y + cosine * x + width / 2).astype(int)
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    picture: NDArray[np.uint8] = frame[row.clip(0, height - 1), column.clip(0, width - 1)]
    picture[~inside] = 0
    return picture
