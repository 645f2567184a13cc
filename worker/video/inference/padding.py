"""Keeps all batches in one shape: fills up a short last batch and cuts its results to the real frames."""

from typing import Literal, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from worker.video.colour.pixel_form import PixelForm

__all__ = ["Pad", "cut", "fill"]

#: Content of the padding in a short batch: copies of its last frame, or black, which is zeros in RGB.
Pad = Literal["last", "zeros"]


class _Sliceable(Protocol):
    def __getitem__(self, key: slice, /) -> Self: ...


Results = TypeVar("Results", bound=_Sliceable)


def fill(frames: NDArray[np.uint8], real: int, pad: Pad, form: PixelForm = PixelForm.RGB) -> int:
    """Overwrite all frames after the first `real` of `frames` (B, ...) of this form, in place.

    Return the number of overwritten frames. Raises ValueError unless 1 <= real <= B.
    """
    if not 1 <= real <= len(frames):
        raise ValueError(f"a batch of {len(frames)} cannot hold {real} real frames")
    if pad == "last":
        frames[real:] = frames[real - 1]
    else:
        form.blacken(frames[real:])
    return len(frames) - real


def cut(results: Results, valid: int) -> Results:
    """Return the first `valid` results of a batch, without those of the padding.

    The return value is a view if slicing `results` makes one, as with an array.
    """
    return results[:valid]
