"""Turns the stored pictures of a clip or a photo upright, as its display matrix asks."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from worker.video.colour.side_data import side_data

__all__ = ["Orientation"]


@dataclass(frozen=True, slots=True)
class Orientation:
    """A transform from stored to upright pictures.

    If `mirrored`, left and right are swapped first. Then the picture makes `turns` quarter turns
    counterclockwise.
    """

    mirrored: bool = False
    turns: int = 0

    @classmethod
    def from_frame(cls, frame: VideoFrame) -> Orientation:
        """Read the orientation from the display matrix of the frame. libav makes one of EXIF's orientation.

        Without a matrix the picture stays as it is. The same holds for a matrix that maps the picture to
        nothing (its determinant is 0): some cameras write one, and players ignore it.
        """
        matrix = side_data(frame, "DISPLAYMATRIX")
        if matrix is None:
            return cls()
        a, b, _, c, d, *_ = struct.unpack("9i", matrix)
        if (determinant := a * d - b * c) == 0:
            return cls()
        mirrored = determinant < 0  # for a mirrored picture libav's angle is off by half a turn
        return cls(mirrored, (round(frame.rotation / 90) + 2 * mirrored) % 4)

    def upright(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return an upright view of the stored `picture` (H,W,3) uint8.

        The view is (W,H,3) if `turns` is odd.
        """
        return np.rot90(picture[:, ::-1] if self.mirrored else picture, self.turns)
