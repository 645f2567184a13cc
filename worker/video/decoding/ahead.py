"""Decodes frames ahead in another thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from av.video.frame import VideoFrame

__all__ = ["decode_ahead"]

#: So many frames are decoded before they are asked for.
AHEAD = 4


def decode_ahead(frames: Iterator[VideoFrame], thread: ThreadPoolExecutor) -> Iterator[VideoFrame]:
    """Yield the frames, which the thread decodes while the caller works. Raises the errors of `frames`.

    If the caller stops early, the thread still decodes the next `AHEAD` frames.
    """
    ahead = deque(thread.submit(next, frames, None) for _ in range(AHEAD))
    while (frame := ahead.popleft().result()) is not None:
        ahead.append(thread.submit(next, frames, None))
        yield frame
