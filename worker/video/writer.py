"""Encodes H.264 in a thread of its own, and lets the file appear under its name only when it is complete."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import uuid4

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from worker.jobs.errors import EngineFailed
from worker.video.audio import AudioCopy
from worker.video.decoder import ClipHeader

#: batches that wait for the encoder before `write` blocks
QUEUE = 2
#: libav's number for the limited range that video players expect
_LIMITED_RANGE = 1


class ClipWriter:
    """Writes `target` as the source's clip with other pictures: its size, timestamps, colours and audio.

    A context manager: unless `commit` has returned by its end, nothing is left of the file. What fails in the
    encoder's thread comes out of a later `write` or of `commit`, as EngineFailed.
    """

    def __init__(
        self, source: Path, target: Path, clip: ClipHeader, *, crf: int = 18, preset: str = "veryfast"
    ) -> None:
        self._target = target
        self._partial = target.with_name(f".{target.name}.{uuid4().hex}.partial")
        self._clip = clip
        self._waiting: deque[Future[None]] = deque()
        self._thread = ThreadPoolExecutor(1, "clip-writer")
        with _engine_failed():
            self._output = av.open(self._partial, "w", format="mp4", options={"movflags": "faststart"})
        try:
            with _engine_failed():
                self._video = self._add_video({"crf": str(crf), "preset": preset})
                self._audio = AudioCopy(source, self._output)
        except BaseException:
            self._discard()
            raise
        self._shift = self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown(cancel_futures=True)
        self._audio.close()
        self._discard()

    def write(self, frames: NDArray[np.uint8], pts: Sequence[int]) -> None:
        """Hand over contiguous frames (N,H,W,3) RGB, to be left alone from now on; their times in ticks."""
        while len(self._waiting) >= QUEUE:
            self._waiting.popleft().result()
        self._waiting.append(self._thread.submit(self._encode, frames, pts))

    def commit(self) -> int:
        """Finish the file, put it on disk and give it its name; returns its size in bytes."""
        self._waiting.append(self._thread.submit(self._finish))
        for job in self._waiting:
            job.result()
        size = self._partial.stat().st_size
        self._partial.rename(self._target)
        _sync(self._target.parent)
        return size

    def _add_video(self, options: dict[str, str]) -> VideoStream:
        clip = self._clip
        stream = self._output.add_stream("libx264", rate=clip.rate, options=options)
        stream.width, stream.height, stream.pix_fmt = clip.width, clip.height, "yuv420p"
        stream.time_base = stream.codec_context.time_base = clip.time_base
        context = stream.codec_context
        context.colorspace, context.color_range = clip.colorspace, _LIMITED_RANGE
        context.color_primaries, context.color_trc = clip.color_primaries, clip.color_trc
        if clip.aspect:
            context.sample_aspect_ratio = clip.aspect
        return stream

    def _start(self) -> Fraction:
        """What is taken off all times: a late common start, or what would put the first frame before zero.

        Sound may begin before zero: that is how its encoder's run-in gets skipped.
        """
        video = self._clip.start * self._clip.time_base
        audio = video if self._audio.start is None else self._audio.start
        return min(video, max(Fraction(0), min(video, audio)))

    def _encode(self, frames: NDArray[np.uint8], pts: Sequence[int]) -> None:
        shift = round(self._shift / self._clip.time_base)
        with _engine_failed():
            for picture, ticks in zip(frames, pts, strict=True):
                frame = VideoFrame.from_numpy_buffer(picture).reformat(
                    format="yuv420p", dst_colorspace=self._clip.colorspace, dst_color_range=_LIMITED_RANGE
                )
                frame.pts, frame.time_base = ticks - shift, self._clip.time_base
                self._output.mux(self._video.encode(frame))
                self._audio.mux_until(ticks * self._clip.time_base, self._shift)

    def _finish(self) -> None:
        with _engine_failed():
            self._output.mux(self._video.encode(None))
            self._audio.mux_until(None, self._shift)
            self._output.close()
            _sync(self._partial)

    def _discard(self) -> None:
        """Close and delete what has not been committed."""
        with suppress(av.FFmpegError):  # an end that cannot be written does not matter any more
            self._output.close()
        self._partial.unlink(missing_ok=True)


@contextmanager
def _engine_failed() -> Iterator[None]:
    try:
        yield
    except (av.FFmpegError, OSError) as error:
        raise EngineFailed(f"The result cannot be written ({error.strerror}).") from error


def _sync(path: Path) -> None:
    """Have the kernel put a file, or a folder's names, on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
