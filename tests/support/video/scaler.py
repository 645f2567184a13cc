"""The conversions of libav's scaler between RGB and planes, with which those of the device are compared."""

import numpy as np
from av.video.frame import VideoFrame

from tests.support.video.clips import Picture
from worker.video.colour.pixel_form import PixelForm

__all__ = ["largest_difference", "scaled_to_planes", "scaled_to_rgb"]


def scaled_to_rgb(planes: Picture, form: PixelForm, matrix: int) -> Picture:
    """Return the RGB (H,W,3) that libav makes of planes (H*3/2,W)."""
    height, width = planes.shape[0] * 2 // 3, planes.shape[1]
    frame = VideoFrame(width, height, form.value)
    y, chroma = planes[:height], planes[height:].reshape(2, height // 2, width // 2)
    for plane, codes in zip(frame.planes, (y, *chroma), strict=True):
        np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, -1)[:, : plane.width] = codes
    frame.colorspace, frame.color_range = matrix, 1 if form is PixelForm.PLANES else 2
    return frame.to_ndarray(format="rgb24").astype(np.uint8)


def scaled_to_planes(rgb: Picture, matrix: int) -> Picture:
    """Return the planes (H*3/2,W) that libav makes of RGB (H,W,3), as `Encoder` has them made."""
    number = 5 if matrix == 6 else matrix  # BT.601, in libav's scaler
    frame = VideoFrame.from_numpy_buffer(rgb)
    return (
        frame.reformat(format="yuv420p", dst_colorspace=number, dst_color_range=1)
        .to_ndarray()
        .astype(np.uint8)
    )


def largest_difference(one: Picture, other: Picture) -> int:
    return int(np.abs(one.astype(int) - other).max())
