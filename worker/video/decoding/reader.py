"""Reads a clip from its sandbox into reused batch buffers, so that decoding overlaps with inference."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from itertools import chain, count, repeat
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from worker.video.decoding.header import ClipEnd, ClipHeader
from worker.video.decoding.neighbours import add_neighbours
from worker.video.decoding.options import READ_DEFAULTS, ReadOptions
from worker.video.sandbox.sandbox import Sandbox
from worker.video.stages import Stages

__all__ = ["BUFFERS", "ClipReader", "FrameBatch", "Frames", "Window"]

Frames = NDArray[np.uint8]
#: A buffer that is being filled, and the timestamps of the frames in it.
Fill = Future[tuple[Frames, tuple[int, ...]]]

#: Three buffers: the model reads one, one is ready, and the decoder fills one.
BUFFERS = 3


@dataclass(frozen=True, slots=True)
class Window:
    """The frames that a model gets at once: `size` frames between neighbours in front and behind.

    With `ahead`, a batch waits until the batch after it is read, and so knows the time after its own frames.
    Neighbours behind need this. It takes another buffer.
    """

    size: int
    before: int = 0
    after: int = 0
    ahead: bool = False

    @property
    def frames(self) -> int:
        """The number of all frames."""
        return self.before + self.size + self.after


@dataclass(frozen=True, slots=True)
class FrameBatch:
    """A batch of consecutive frames of a clip.

    `window` is uint8 (before+B+after, ...): the B frames of the batch between their neighbours, in the form
    that the header states. The first `valid` of the B are real, and `pts` holds their timestamps in ticks.
    With `Window.ahead`, the next frame is displayed at `next_pts`, which is the clip's end after the last
    frame. The reader reuses the buffer: it holds these frames only until the next batch is requested.
    """

    index: int
    window: Frames
    valid: int
    pts: tuple[int, ...]
    next_pts: int | None = None


class ClipReader:
    """Reader of the batches of one clip, part by part. The sandbox decodes a part when `batches` is called.

    `stages` gets the seconds in which frames are decoded and received.

    The constructor and the iteration raise what `Sandbox.call` raises, above all `BadVideo` as `ClipDecoder`
    does. The iteration raises it in place of the batch that could not be filled.
    """

    header: ClipHeader
    #: Whether the clip has an index, and all frames so far were what it says. If it has not, all parts are
    #: decoded from the clip's start. A caller that knows this of another reader may set it to False.
    seekable: bool
    #: The decoder of the frames so far, as in the header, or "libav" if it has failed at one of them.
    decoder: str
    #: It is there after the iteration of a part at the clip's end.
    end: ClipEnd

    def __init__(
        self,
        sandbox: Sandbox,
        path: Path,
        *,
        options: ReadOptions = READ_DEFAULTS,
        stages: Stages | None = None,
    ) -> None:
        self.sandbox = sandbox
        self._stages = stages or Stages()
        with self._stages.busy("decode"):
            self.header = ClipHeader.from_json(sandbox.call("open", path=path, options=asdict(options)))
        self.seekable, self.decoder = self.header.seekable, self.header.decoder
        self._buffers: dict[Window, list[Frames]] = {}

    def batches(
        self,
        window: Window,
        *,
        first: int = 0,
        until: int | None = None,
        allocate: Callable[[tuple[int, ...]], Frames] = lambda shape: np.empty(shape, np.uint8),
    ) -> Iterator[FrameBatch]:
        """Start to read the part from frame `first` to before frame `until`, and return its batches.

        Both are multiples of `window.size`, or the clip's number of frames. None stands for the clip's end.
        The neighbours outside of the part are real frames. At the clip's ends, its first or last frame
        stands for the neighbours that do not exist. Another part can be read when all batches of this one
        have been, or after `stop`.

        `allocate` receives a shape and returns a uint8 buffer, for example in pinned memory. All parts that
        are read with this window share the buffers.
        """
        self._window = window
        self._ended = False
        self._lead = lead = min(first, window.before)
        behind = max(window.after, 1) if window.ahead else 0
        part = {"first": first - lead, "until": until and until + behind, "seek": self.seekable}
        self.sandbox.submit(lambda: self.sandbox.send("frames", **part))
        if window not in self._buffers:
            shape = (window.frames, *self.header.shape)
            self._buffers[window] = [allocate(shape) for _ in range(BUFFERS + window.ahead)]
        leads = chain([lead], repeat(0))
        self._fills = deque(map(self.sandbox.submit, repeat(self._fill), self._buffers[window], leads))
        return self._batches(self._fills, first // window.size, until)

    def stop(self) -> None:
        """Stop to read the current part. Its batches must not be used any more."""
        self.sandbox.send("stop")
        for fill in self._fills:
            self.sandbox.wait(fill)
        self.sandbox.wait(self.sandbox.submit(self._drain))

    def _batches(self, fills: deque[Fill], start: int, until: int | None) -> Iterator[FrameBatch]:
        window, before = self._window, None
        current: tuple[Frames, tuple[int, ...]] | None = None
        for index in count(start):
            frames, pts = current or self.sandbox.wait(fills.popleft())
            if not pts or index * window.size == until:
                break
            full = len(pts) == window.size
            current = self.sandbox.wait(fills.popleft()) if full and window.ahead else None
            following, following_pts = current or (frames, ())
            before = frames[window.before - self._lead : window.before] if before is None else before
            batch = frames[: window.before + len(pts) + window.after]
            behind = self._pictures(following)[: min(len(following_pts), window.after)]
            add_neighbours(batch, (window.before, window.after), before, behind)
            before = frames[window.size : window.size + window.before].copy()
            yield FrameBatch(index, frames, len(pts), pts, self._next_time(following_pts))
            if not full:
                break
            fills.append(self.sandbox.submit(self._fill, frames))
        for fill in fills:  # the sandbox takes its next task when the answers to this one are received
            self.sandbox.wait(fill)

    def _next_time(self, following: tuple[int, ...]) -> int | None:
        """Return the time of the next frame, or the end, if the batch has waited for the next one."""
        if not self._window.ahead:
            return None
        return following[0] if following else self.end.tick

    def _pictures(self, buffer: Frames) -> Frames:
        """Return the part of the buffer between the neighbours."""
        return buffer[self._window.before : self._window.before + self._window.size]

    def _fill(self, buffer: Frames, lead: int = 0) -> tuple[Frames, tuple[int, ...]]:
        """Receive `lead` neighbours and the next frames into `buffer`.

        Return it with one timestamp for each frame that is no neighbour.
        """
        first = self._window.before
        with self._stages.busy("decode"):
            return buffer, tuple(self._receive(buffer[first - lead : first + self._window.size]))[lead:]

    def _drain(self) -> None:
        """Receive the rest of the part."""
        frames = np.empty_like(self._buffers[self._window][0])
        while not self._ended:
            list(self._receive(frames))

    def _receive(self, pictures: Frames) -> Iterator[int]:
        """Receive frames into `pictures` until the part ends, and yield their timestamps."""
        for out in pictures:
            if self._ended:
                return
            answer = self.sandbox.receive()
            self.seekable = self.seekable and answer["seekable"]
            self.decoder = answer["decoder"]
            if "end" in answer:
                self._ended = True
                if answer["end"]:
                    self.end = ClipEnd(**answer["end"])
                return
            self.sandbox.receive_pixels(out)
            yield answer["pts"]
