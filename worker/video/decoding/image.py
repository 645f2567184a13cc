"""Decodes a background image."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from worker.jobs.errors import BadVideo
from worker.jobs.limits import DEFAULTS, Limits
from worker.jobs.media.probe.probe import IMAGES, open_media
from worker.video.colour.rgb_converter import RgbConverter
from worker.video.decoding.orientation import Orientation
from worker.video.sandbox.sandbox import Sandbox

__all__ = ["decode_image", "read_background"]


def read_background(
    sandbox: Sandbox, background: tuple[int, int, int] | Path
) -> tuple[int, int, int] | NDArray[np.uint8]:
    """Return the colour, or the image as (h,w,3) uint8 RGB. The sandbox decodes it.

    Raises what `Sandbox.call` raises, and `BadVideo` if the image cannot be decoded.
    """
    if isinstance(background, tuple):
        return background
    image = np.empty(sandbox.call("image", path=background)["shape"], np.uint8)
    sandbox.wait(sandbox.submit(sandbox.receive_pixels, image))
    return image


def decode_image(path: Path, limits: Limits = DEFAULTS) -> NDArray[np.uint8]:
    """Return the upright image in `path` as (h,w,3) uint8 RGB, decoded in this process.

    Raises `BadVideo` if it cannot be decoded, or exceeds `limits`.
    """
    try:
        with open_media(path, IMAGES, limits) as container:
            container.streams.video[0].codec_context.options = {"max_pixels": str(limits.max_pixels)}
            frame = next(container.decode(video=0))
            rgb = RgbConverter(frame.width, frame.height).convert(frame)
            return np.ascontiguousarray(Orientation.from_frame(frame).upright(rgb))
    except MemoryError:
        raise
    except (av.FFmpegError, StopIteration, IndexError) as error:
        raise BadVideo("The background image cannot be decoded.") from error
