"""The clip on which a model is checked: one that is made here, or the beginning of the author's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from worker.jobs.limits import Limits
from worker.video.decoding.decoder import ClipDecoder

__all__ = ["HEIGHT", "WIDTH", "cut_clip", "make_clip"]

Picture = NDArray[np.uint8]
#: The size of the clip in pixels. Neither is a multiple of 4, because clips have all even sizes.
WIDTH, HEIGHT = 122, 74
RATE = Fraction(25)


def make_clip(path: Path, frames: int) -> int:
    """Write a clip of so many frames, in which a disc moves over a changing pattern. Return the number."""
    return _write(path, (_picture(number) for number in range(frames)), WIDTH, HEIGHT, RATE)


def cut_clip(path: Path, source: Path, frames: int, limits: Limits) -> int:
    """Write the first frames of the clip `source`, upright. Return how many they are. Raises `BadVideo`."""
    decoder = ClipDecoder(source, limits)
    with closing(decoder):
        pictures = (decoder.upright(frame) for frame in islice(decoder.frames, frames))
        header = decoder.header
        return _write(path, pictures, header.width, header.height, header.rate)


def _picture(number: int) -> Picture:
    """Return a picture (H,W,3) that differs from that of every other number."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    red = 127 + 127 * np.sin(columns / 9 + number / 3)
    green = 127 + 127 * np.sin(rows / 7 - number / 5)
    centre = WIDTH * (0.5 + 0.4 * np.cos(number)), HEIGHT * (0.5 + 0.4 * np.sin(number))
    disc = np.hypot(columns - centre[0], rows - centre[1]) < HEIGHT / 4
    return np.dstack([red, green, 255 * disc]).astype(np.uint8)


def _write(path: Path, pictures: Iterator[Picture], width: int, height: int, rate: Fraction) -> int:
    """Encode the pictures with little loss. Return how many they are."""
    count = 0
    with av.open(path, "w") as output:
        stream = output.add_stream("libx264", rate=rate, options={"crf": "12", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for count, picture in enumerate(pictures, 1):
            frame = VideoFrame.from_ndarray(np.ascontiguousarray(picture))
            frame.pts, frame.time_base = count - 1, 1 / rate
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return count
