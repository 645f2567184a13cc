"""Makes a few faces of the detector's many overlapping boxes, as MediaPipe does it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Face", "find_faces"]

#: Boxes of one face overlap by more than this (intersection over union).
_SAME_FACE = 0.3
#: Of two faces whose squares overlap by more than this, only the second one counts.
_SAME_SQUARE = 0.5
#: The landmarks are sought in a square so many times as wide as the detector's box.
_MARGIN = 1.5


@dataclass(frozen=True, slots=True)
class Face:
    """A face in a frame. `score` is a probability.

    `box` is left, top, right, bottom in pixels. `eyes` is x, y of the two eyes.
    """

    score: float
    box: NDArray[np.float32]
    eyes: NDArray[np.float32]

    @property
    def square(self) -> tuple[float, float, float, float]:
        """The square with the whole face, upright: centre x, centre y, width, angle in radians."""
        left, top, right, bottom = self.box.tolist()
        x0, y0, x1, y1 = self.eyes.tolist()
        width = _MARGIN * max(right - left, bottom - top)
        return (left + right) / 2, (top + bottom) / 2, width, math.atan2(y1 - y0, x1 - x0)


def find_faces(
    scores: NDArray[np.float32], places: NDArray[np.float32], least: float, limit: int
) -> list[Face]:
    """Return at most `limit` faces with a score of at least `least`, the most probable first.

    `scores` (P,) are probabilities. `places` (P,8) is each place's `box` and `eyes`. A face is the mean of
    all boxes that overlap with its most probable one, weighted with their scores.
    """
    usable = (scores >= least) & (places[:, 0] <= places[:, 2]) & (places[:, 1] <= places[:, 3])
    order = np.flatnonzero(usable)[np.argsort(-scores[usable], kind="stable")]
    scores, places = scores[order], places[order]
    faces: list[Face] = []
    while len(scores) and len(faces) < limit:
        same = _overlaps(places[:, :4], places[0, :4]) > _SAME_FACE
        same[0] = True  # a box without an area overlaps with nothing, not even itself
        mean = np.average(places[same], 0, scores[same])
        faces.append(Face(float(scores[0]), mean[:4], mean[4:]))
        scores, places = scores[~same], places[~same]
    return _distinct(faces)


def _distinct(faces: list[Face]) -> list[Face]:
    """Return the faces whose squares do not overlap with that of a later face. Angles do not count."""
    outlines = np.array([_outline(*face.square[:3]) for face in faces]).reshape(-1, 4)
    return [
        face
        for number, face in enumerate(faces, 1)
        if not (_overlaps(outlines[number:], outlines[number - 1]) > _SAME_SQUARE).any()
    ]


def _outline(x: float, y: float, width: float) -> tuple[float, float, float, float]:
    return x - width / 2, y - width / 2, x + width / 2, y + width / 2


def _overlaps(boxes: NDArray[np.floating], box: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return intersection over union (N,) of the `boxes` (N,4) with the `box` (4,), 0 for empty boxes."""
    shared = np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2])
    intersection = shared.clip(min=0).prod(1)
    union = (boxes[:, 2:] - boxes[:, :2]).prod(1) + (box[2:] - box[:2]).prod() - intersection
    overlaps: NDArray[np.floating] = np.zeros_like(union)
    np.divide(intersection, union, out=overlaps, where=union > 0)
    return overlaps
