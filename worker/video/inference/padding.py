"""Keeps every batch in one shape: fills up a short last batch, and cuts its results to the real ones."""

from typing import Literal, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

#: what fills a short batch: copies of its last frame, or zeros (black)
Pad = Literal["last", "zeros"]


class _Sliceable(Protocol):
    def __getitem__(self, key: slice, /) -> Self: ...


Results = TypeVar("Results", bound=_Sliceable)


def fill(frames: NDArray[np.uint8], valid: int, pad: Pad) -> int:
    """Overwrite all after the first `valid` of `frames` (B,H,W,3), in place, and return how many that were.

    Raises ValueError unless 1 <= valid <= B.
    """
    if not 1 <= valid <= len(frames):
        raise ValueError(f"a batch of {len(frames)} cannot hold {valid} valid frames")
    frames[valid:] = frames[valid - 1] if pad == "last" else 0
    return len(frames) - valid


def cut(results: Results, valid: int) -> Results:
    """Exactly the `valid` real results of a padded batch (a view, where slicing makes one)."""
    return results[:valid]
