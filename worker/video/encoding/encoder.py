"""Encodes frames as H.264 into one file that stands alone: it begins with a key frame."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from worker.video.decoding.decoder import ClipHeader

CRF, PRESET = 18, "veryfast"

#: What must be the same for segments to fit behind each other: the encoder's build and its settings.
RECIPE = f"av{av.__version__}-{PRESET}-crf{CRF}"

#: by how many places x264 at most puts a frame before those that are shown earlier
REORDERED = 2

#: x264 would take all cores, and at each segment's end keep them from whoever feeds the GPU.
THREADS = max(2, (os.cpu_count() or 2) // 2)

#: libav's number for the limited range that video players expect
_LIMITED_RANGE = 1
#: NUT keeps any time base and needs no index; its times must not be moved to make room for B-frames.
_CONTAINER = {"avoid_negative_ts": "disabled"}


class Encoder:
    """Writes `path` with the size, colours and times of the clip, the latter counted from its start.

    All methods raise OSError or av.FFmpegError. A context manager: its end closes the file, whole or not.
    """

    def __init__(self, path: Path, clip: ClipHeader) -> None:
        self._clip = clip
        self.frames = 0
        self._output = av.open(path, "w", format="nut", options=_CONTAINER)
        try:
            self._video = self._add_video()
        except BaseException:
            self.close()
            raise

    def encode(self, frames: NDArray[np.uint8], pts: Sequence[int]) -> None:
        """Take the next frames (N,H,W,3) RGB; their times in ticks of the clip."""
        for picture, ticks in zip(frames, pts, strict=True):
            frame = VideoFrame.from_numpy_buffer(picture).reformat(
                format="yuv420p", dst_colorspace=self._clip.colorspace, dst_color_range=_LIMITED_RANGE
            )
            frame.pts, frame.time_base = ticks - self._clip.start, self._clip.time_base
            self._output.mux(self._video.encode(frame))
            self.frames += 1

    def finish(self) -> None:
        """Write what the encoder still holds, and the file's end."""
        self._output.mux(self._video.encode(None))
        self._output.close()

    def close(self) -> None:
        """Close the file as it is."""
        with suppress(av.FFmpegError, OSError):  # an end that cannot be written does not matter any more
            self._output.close()

    def _add_video(self) -> VideoStream:
        clip = self._clip
        options = {"crf": str(CRF), "preset": PRESET}
        stream = self._output.add_stream("libx264", rate=clip.rate, options=options)
        stream.width, stream.height, stream.pix_fmt = clip.width, clip.height, "yuv420p"
        stream.time_base = stream.codec_context.time_base = clip.time_base
        context = stream.codec_context
        context.thread_count = THREADS
        context.colorspace, context.color_range = clip.colorspace, _LIMITED_RANGE
        context.color_primaries, context.color_trc = clip.color_primaries, clip.color_trc
        if clip.aspect:
            context.sample_aspect_ratio = clip.aspect
        context.open()
        return stream
