"""Orientation: how the pictures of a clip have to be turned to stand upright."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

__all__ = ["Orientation"]


@dataclass(frozen=True, slots=True)
class Orientation:
    """Left for right if `mirrored`, and then `turns` quarter turns counterclockwise."""

    mirrored: bool = False
    turns: int = 0

    @classmethod
    def of(cls, frame: VideoFrame) -> Orientation:
        """What the frame's display matrix says.

        A matrix that shows nothing, as some cameras write, is none: players show the picture as it is.
        """
        if "DISPLAYMATRIX" not in frame.side_data:
            return cls()
        matrix: Any = frame.side_data["DISPLAYMATRIX"]  # type: ignore[typeddict-item]  # PyAV's stub
        a, b, _, c, d, *_ = struct.unpack("9i", matrix)
        if (area := a * d - b * c) == 0:
            return cls()
        mirrored = area < 0  # then libav's angle is that of a picture upside down
        return cls(mirrored, (round(frame.rotation / 90) + 2 * mirrored) % 4)

    def upright(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A view of the picture (H,W,3) as it is to be seen."""
        return np.rot90(picture[:, ::-1] if self.mirrored else picture, self.turns)
