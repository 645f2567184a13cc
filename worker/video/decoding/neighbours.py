"""The neighbours of a batch: frames in front of it and behind it that its model also gets."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["add_neighbours"]

Frames = NDArray[np.uint8]


def add_neighbours(batch: Frames, places: tuple[int, int], before: Frames, behind: Frames) -> None:
    """Write the frames `before` and `behind` a batch into its places for them, next to its own frames.

    `places` are their numbers in front and behind. Fewer frames exist at the clip's ends, where its first or
    last frame fills the other places.
    """
    first, end = places[0] - len(before), len(batch) - places[1] + len(behind)
    batch[first : places[0]] = before
    batch[:first] = batch[first]
    batch[len(batch) - places[1] : end] = behind
    batch[end:] = batch[end - 1]
