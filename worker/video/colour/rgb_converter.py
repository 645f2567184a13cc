"""Converts decoded frames to the 8-bit RGB that the model sees and the encoder writes."""

from __future__ import annotations

import struct
from collections.abc import Callable

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from worker.jobs.errors import BadVideo
from worker.video.colour.colour_map import ColourMap
from worker.video.colour.matrices import CONVERTED, to_rgb16
from worker.video.colour.side_data import side_data
from worker.video.colour.tags import ColourTags, Matrix

__all__ = ["RgbConverter"]

#: The brightness in nits of the brightest pixel of an HDR clip that does not state it.
DEFAULT_PEAK_NITS = 1000.0
#: A conversion that needs a player's libraries, and that the client can do before the upload.
_WAY_OUT = (
    "Convert it before you send it, for example with `ffmpeg -i CLIP -vf libplacebo=colorspace=bt709:"
    "color_primaries=bt709:color_trc=bt709:format=yuv420p -c:a copy CONVERTED.mp4`."
)


class RgbConverter:
    """Converter of frames to RGB of `width` x `height` pixels. Frames of another size are scaled.

    The RGB is that of the frames, if they are as bright and colourful as BT.709 allows. Else, for HDR and
    wide gamuts, it is that of BT.709. Transparency is ignored.
    """

    def __init__(self, width: int, height: int) -> None:
        self._size = width, height
        self._reformatter = VideoReformatter()
        self._kind: tuple[object, ...] = ()
        self._convert: Callable[[VideoFrame], VideoFrame] = self._reformatter.reformat

    def convert(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """Return the frame as (H,W,3) uint8. The array is valid until the next call.

        Raises `BadVideo` if the frame's colours cannot be converted.
        """
        stated = frame.colorspace, frame.color_primaries, frame.color_trc, frame.color_range
        kind = (frame.format.name, frame.width, frame.height, *stated)
        try:
            if kind != self._kind:
                self._kind, self._convert = kind, self._conversion(frame)
            rgb = self._convert(frame)
        except MemoryError:
            raise
        except av.FFmpegError as error:
            raise BadVideo(
                f"The clip's pixel format, {frame.format.name}, is not read here. {_WAY_OUT}"
            ) from error
        plane = rgb.planes[0]
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(rgb.height, plane.line_size)
        return rows[:, : rgb.width * 3].reshape(rgb.height, rgb.width, 3)

    def _conversion(self, frame: VideoFrame) -> Callable[[VideoFrame], VideoFrame]:
        """Return the conversion of frames like this one to "rgb24"."""
        tags = ColourTags.from_frame(frame)
        _check_supported(frame, tags)
        if tags.matrix in CONVERTED:
            return self._finish(frame, tags, lambda frame: to_rgb16(frame, tags, self._reformatter))
        # Only a matrix that the frame does not state itself must be named.
        matrix = None if tags.matrix in (frame.colorspace, Matrix.RGB) else tags.scaler_matrix
        if tags.is_standard:
            return lambda frame: self._scale(frame, "rgb24", matrix)
        return self._finish(
            frame,
            tags,
            lambda frame: self._reformatter.reformat(frame, format="rgb48le", src_colorspace=matrix),
        )

    def _finish(
        self, frame: VideoFrame, tags: ColourTags, to_rgb: Callable[[VideoFrame], VideoFrame]
    ) -> Callable[[VideoFrame], VideoFrame]:
        """Return the conversion that goes by `to_rgb`, which returns RGB of 16 bits."""
        scaler = VideoReformatter()
        if tags.is_standard:
            return lambda frame: scaler.reformat(to_rgb(frame), *self._size, format="rgb24")
        colours = ColourMap(tags, _peak_nits(frame), frame.width, frame.height)
        return lambda frame: scaler.reformat(colours.apply(to_rgb(frame)), *self._size)

    def _scale(self, frame: VideoFrame, pixels: str, matrix: int | None) -> VideoFrame:
        # More threads would take more time in all, and the decoder needs the cores.
        return self._reformatter.reformat(frame, *self._size, format=pixels, src_colorspace=matrix, threads=1)


def _check_supported(frame: VideoFrame, tags: ColourTags) -> None:
    """Raise `BadVideo` if the colours need information or formulas that are not here."""
    if tags.matrix in (
        Matrix.SMPTE2085, Matrix.ICTCP, Matrix.IPT_C2, Matrix.YCGCO_RE, Matrix.YCGCO_RO
    ):  # fmt: skip
        raise BadVideo(
            f"The clip's colours are coded as {Matrix(tags.matrix).name}, which is not read here. {_WAY_OUT}"
        )
    # Profile 5 states no primaries, because only a Dolby Vision player can show it. The others state them.
    if tags.primaries == 2 and side_data(frame, "DOVI_METADATA") is not None:
        raise BadVideo(f"The clip is Dolby Vision of profile 5, which is not read here. {_WAY_OUT}")


def _peak_nits(frame: VideoFrame) -> float:
    """Return the brightness of the brightest pixel that the metadata of an HDR clip promise.

    That is the smaller one of "MaxCLL" and the peak of the display on which the clip was graded.
    """
    promises = []
    if light_level := side_data(frame, "CONTENT_LIGHT_LEVEL"):
        promises.append(float(struct.unpack_from("I", light_level)[0]))
    if display := side_data(frame, "MASTERING_DISPLAY_METADATA"):
        numerator, denominator = struct.unpack_from("ii", display, 72)
        promises.append(numerator / denominator if denominator else 0.0)
    return min((nits for nits in promises if nits > 0), default=DEFAULT_PEAK_NITS)
