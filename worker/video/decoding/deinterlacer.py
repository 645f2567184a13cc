"""Makes progressive frames of interlaced ones with libav's filter bwdif."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress

import av
from av.filter import Graph
from av.filter.context import FilterContext
from av.video.frame import VideoFrame

__all__ = ["deinterlace"]


def deinterlace(frames: Iterable[VideoFrame]) -> Iterator[VideoFrame]:
    """Yield one progressive frame for each frame, at the same time.

    Frames that are not marked as interlaced stay as they are. The filter starts at the first frame that is,
    so that progressive clips do not pass it. It starts anew when the format of the frames changes.
    """
    bwdif: _Bwdif | None = None
    for frame in frames:
        if bwdif and not bwdif.accepts(frame):
            yield from bwdif.finish()
            bwdif = None
        if bwdif is None and frame.interlaced_frame:
            bwdif = _Bwdif(frame)
        if bwdif is None:
            yield frame
        else:
            yield from bwdif.process(frame)
    if bwdif:
        yield from bwdif.finish()


class _Bwdif:
    """The filter for frames like `first`. It returns each frame when it has seen the one after it."""

    def __init__(self, first: VideoFrame) -> None:
        self._kind = _kind(first)
        self._times = deque[int | None]()
        name, width, height, matrix, colour_range = self._kind
        self._graph = Graph()
        self._source: FilterContext = self._graph.add(
            "buffer", video_size=f"{width}x{height}", pix_fmt=name, time_base="1/25", pixel_aspect="1/1",
            colorspace=str(matrix), range=str(colour_range),
        )  # fmt: skip
        bwdif = self._graph.add("bwdif", "mode=send_frame:deint=interlaced")
        self._graph.link_nodes(self._source, bwdif, self._graph.add("buffersink")).configure()
        self._pushed = 0

    def accepts(self, frame: VideoFrame) -> bool:
        return _kind(frame) == self._kind

    def process(self, frame: VideoFrame) -> Iterator[VideoFrame]:
        self._times.append(frame.pts)
        frame.pts = self._pushed  # the filter only needs times that rise
        self._pushed += 1
        self._source.push(frame)
        yield from self._pull()

    def finish(self) -> Iterator[VideoFrame]:
        self._source.push(None)
        yield from self._pull()

    def _pull(self) -> Iterator[VideoFrame]:
        with suppress(av.BlockingIOError, av.EOFError):
            while True:
                frame = self._graph.vpull()
                frame.pts = self._times.popleft()
                yield frame


def _kind(frame: VideoFrame) -> tuple[str, int, int, int, int]:
    """Return what must not change between the frames of one filter graph."""
    return frame.format.name, frame.width, frame.height, frame.colorspace, frame.color_range
