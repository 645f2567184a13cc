"""Reads the planes of frames that need no conversion on the way to the device."""

from __future__ import annotations

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from worker.video.colour.pixel_form import PixelForm
from worker.video.colour.planes import copy_planes
from worker.video.colour.side_data import side_data
from worker.video.colour.tags import BRIGHTNESS_WEIGHTS, ColourTags, Matrix

__all__ = ["PlaneReader", "form_of"]

Pixels = NDArray[np.uint8]

#: libav's names of 4:2:0 with 8 bits.
_FORMATS = {"yuv420p", "yuvj420p", "nv12"}
#: With fewer rows, libav's scaler weighs the rows of colour differences in another way than for other sizes.
_MIN_ROWS = 8


def form_of(frame: VideoFrame) -> PixelForm:
    """Return the form in which the frame's pixels can be sent without a loss: its planes, or else RGB.

    Frames have planes if they are 4:2:0 of 8 bits, have even sizes and the colours of BT.709 or of television
    sets, and a matrix that `PlaneConverter` knows.
    """
    tags = ColourTags.from_frame(frame)
    is_plain = (
        frame.format.name in _FORMATS
        and not (frame.width % 2 or frame.height % 2)
        and frame.height >= _MIN_ROWS
        and tags.is_standard
        and tags.matrix in BRIGHTNESS_WEIGHTS
        and side_data(frame, "DOVI_METADATA") is None
    )
    if not is_plain:
        return PixelForm.RGB
    is_full = frame.color_range == 2 or frame.format.name == "yuvj420p"
    return PixelForm.FULL_PLANES if is_full else PixelForm.PLANES


class PlaneReader:
    """Reader of the planes of a clip whose first frame is `first` and has the form `form`."""

    def __init__(self, first: VideoFrame, form: PixelForm) -> None:
        self._form = form
        self._tags = ColourTags.from_frame(first)
        self._size = first.width, first.height
        self._pixels = np.empty(form.shape(*self._size), np.uint8)
        self._reformatter = VideoReformatter()
        self._kind: tuple[object, ...] = ()
        self._is_alike = False

    def read(self, frame: VideoFrame) -> Pixels | None:
        """Return the planes (H*3/2,W), valid until the next call, or None for a frame unlike the first."""
        stated = frame.colorspace, frame.color_primaries, frame.color_trc, frame.color_range
        kind = (frame.format.name, frame.width, frame.height, *stated)
        if kind != self._kind:
            self._kind, self._is_alike = kind, self._is_like_first(frame)
        # libav states a negative line size for pictures that are stored upside down.
        if not self._is_alike or frame.planes[0].line_size < 0:
            return None
        if frame.format.name == "nv12":
            frame = self._reformatter.reformat(frame, format="yuv420p", threads=1)
        copy_planes(frame, self._pixels)
        return self._pixels

    def convert(self, rgb: Pixels) -> Pixels:
        """Return the planes of a picture (H,W,3) in RGB. They are valid until the next call."""
        frame = VideoFrame.from_numpy_buffer(np.ascontiguousarray(rgb))
        planes = self._reformatter.reformat(
            frame,
            format="yuv420p",
            dst_colorspace=self._tags.scaler_matrix,
            dst_color_range=2 if self._form is PixelForm.FULL_PLANES else 1,
            threads=1,
        )
        copy_planes(planes, self._pixels)
        return self._pixels

    def _is_like_first(self, frame: VideoFrame) -> bool:
        if (frame.width, frame.height) != self._size or form_of(frame) is not self._form:
            return False
        matrix = ColourTags.from_frame(frame).matrix
        return BRIGHTNESS_WEIGHTS[Matrix(matrix)] == BRIGHTNESS_WEIGHTS[Matrix(self._tags.matrix)]
