"""Planes of frames in libav's memory, and in arrays as `PixelForm` describes them."""

from __future__ import annotations

import numpy as np
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane
from numpy.typing import NDArray

from worker.video.colour.pixel_form import PixelForm

__all__ = ["copy_planes", "frame_of_planes"]

Pixels = NDArray[np.uint8]


def frame_of_planes(pixels: Pixels) -> VideoFrame:
    """Return the frame whose planes are `pixels` (H*3/2,W). It shares their memory, and keeps it alive."""
    return VideoFrame.from_dlpack(_planes(pixels), PixelForm.PLANES.value)


def copy_planes(frame: VideoFrame, pixels: Pixels) -> None:
    """Copy the planes of a frame in 4:2:0 of 8 bits to `pixels` (H*3/2,W)."""
    for plane, target in zip(frame.planes, _planes(pixels), strict=True):
        np.copyto(target, _rows(plane)[:, : plane.width])


def _planes(pixels: Pixels) -> tuple[Pixels, Pixels, Pixels]:
    """Return views of the brightness (H,W), and of the two colour differences (H/2,W/2)."""
    height, width = pixels.shape[0] * 2 // 3, pixels.shape[1]
    blue, red = pixels[height:].reshape(2, height // 2, width // 2)
    return pixels[:height], blue, red


def _rows(plane: VideoPlane) -> Pixels:
    return np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
