"""Comparison of the pictures of videos, and pictures that show their own numbers."""

from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from tests.support.video.clips import Picture

__all__ = ["Pictures", "numbered_picture", "read_pictures", "same_pictures", "shown_number"]

Luma = NDArray[np.float64]
#: The time of each frame, in the stream's time base, and the mean luma of its blocks.
Pictures = Sequence[tuple[int, Luma]]

#: Side of a block in pixels.
BLOCK = 8
#: How far the mean luma of a block may differ: x264 encodes a picture slightly differently each time.
NOISE = 12


def read_pictures(path: Path) -> Pictures:
    """Return the pictures of the video at `path`."""
    with av.open(path) as container:
        return [(frame.pts or 0, _blocks(frame)) for frame in container.decode(video=0)]


def same_pictures(some: Pictures, others: Pictures) -> bool:
    """Return whether both have the same frames at the same times."""
    if [pts for pts, _ in some] != [pts for pts, _ in others]:
        return False
    return all(abs(one - other).max() < NOISE for (_, one), (_, other) in zip(some, others, strict=True))


def _blocks(frame: av.VideoFrame) -> Luma:
    """Return the mean luma of each block, (rows,columns)."""
    luma = frame.to_ndarray(format="gray")
    height, width = (side // BLOCK for side in luma.shape)
    cut = luma[: height * BLOCK, : width * BLOCK]
    return np.asarray(cut.reshape(height, BLOCK, width, BLOCK).mean(axis=(1, 3)))


def numbered_picture(index: int) -> Picture:
    """Return a picture (48,64,3) of eight bars, black or white, which are the bits of `index`."""
    bars = np.array([255 * (index >> bit & 1) for bit in range(8)], dtype=np.uint8)
    return np.broadcast_to(bars.repeat(8)[None, :, None], (48, 64, 3)).copy()


def shown_number(picture: Picture) -> int:
    """Return the number that a `numbered_picture` shows, in any size."""
    width = picture.shape[1]
    bars = [picture[:, width * (2 * bit + 1) // 16].mean() > 128 for bit in range(8)]
    return sum(int(bar) << bit for bit, bar in enumerate(bars))
