"""The forms in which the pixels of frames travel from the sandbox to the device, and back to the encoder."""

from __future__ import annotations

from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

__all__ = ["PixelForm"]


class PixelForm(StrEnum):
    """The form of a frame's pixels. Its text is libav's name for it.

    Planes are brightness and the two colour differences, each of which has one sample for 2x2 pixels. They
    lie one after the other in an array (H*3/2,W): H rows of brightness, and behind them, without gaps, H/2
    rows of W/2 samples for each difference. Their codes use the limited range (16-235) or the full one.
    """

    RGB = "rgb24"
    PLANES = "yuv420p"
    FULL_PLANES = "yuvj420p"

    def shape(self, width: int, height: int) -> tuple[int, ...]:
        """Return the shape of a frame of this size in pixels. Planes need even sizes."""
        return (height, width, 3) if self is PixelForm.RGB else (height * 3 // 2, width)

    def blacken(self, frames: NDArray[np.uint8]) -> None:
        """Make all frames (N, ...) black, in place."""
        frames[:] = 16 if self is PixelForm.PLANES else 0
        if self is not PixelForm.RGB:
            frames[:, frames.shape[1] * 2 // 3 :] = 128  # no colour
