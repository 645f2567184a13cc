"""Encodes frames as H.264 into one file that can be decoded alone, because it begins with a key frame."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from worker.video.colour.planes import frame_of_planes
from worker.video.decoding.header import ClipHeader

__all__ = ["RECIPE", "Encoder"]

CRF, PRESET = 18, "veryfast"

#: Build and settings of the encoder. Only segments of the same recipe can be joined. The last number changes
#: when the number, colours or sizes of the frames of some clips do.
RECIPE = f"av{av.__version__}-{PRESET}-crf{CRF}-2"

#: libav's number for the limited colour range (16-235) that video players expect.
_LIMITED_RANGE = 1
#: The container is NUT, which keeps any time base and needs no index. By default libav would shift the
#: timestamps to make room for B-frames. The joiner sets them itself.
_CONTAINER = {"avoid_negative_ts": "disabled"}


class Encoder:
    """Encoder of one segment into the NUT file `path`, with the size and colours of the clip.

    Timestamps in the file count from the clip's start. Files of encoders with other numbers of `threads` can
    be joined. The constructor, `encode` and `finish` raise OSError or `av.FFmpegError`. Call `close` at the
    end in any case.
    """

    suffix = ".nut"

    def __init__(self, path: Path, clip: ClipHeader, threads: int = 2) -> None:
        self._clip = clip
        self._reformatter = VideoReformatter()
        self._output = av.open(path, "w", format="nut", options=_CONTAINER)
        try:
            self._video = self._add_video(threads)
        except BaseException:
            self.close()
            raise

    def encode(self, frames: NDArray[np.uint8], pts: Sequence[int]) -> None:
        """Encode the next `frames`, displayed at `pts` in ticks of the clip.

        They are uint8 and contiguous: (N,H,W,3) RGB, or planes (N,H*3/2,W) in the limited range, which need
        no conversion. x264 has copied them when this method returns.
        """
        read = frame_of_planes if frames.ndim == 3 else self._convert
        for pixels, ticks in zip(frames, pts, strict=True):
            frame = read(pixels)
            frame.pts, frame.time_base = ticks - self._clip.start, self._clip.time_base
            self._output.mux(self._video.encode(frame))

    def finish(self) -> None:
        """Write the frames that the encoder still holds and complete the file."""
        self._output.mux(self._video.encode(None))
        self._output.close()

    def close(self) -> None:
        """Close the file without completing it. Does nothing after `finish`."""
        with suppress(av.FFmpegError, OSError):  # the file is about to be deleted
            self._output.close()

    def _convert(self, picture: NDArray[np.uint8]) -> VideoFrame:
        """Return a frame of planes with the pixels of a picture (H,W,3) in RGB."""
        return self._reformatter.reformat(
            VideoFrame.from_numpy_buffer(picture),
            format="yuv420p",
            dst_colorspace=self._clip.colours.scaler_matrix,
            dst_color_range=_LIMITED_RANGE,
            threads=1,  # more of them take more time in all, and x264 needs the cores
        )

    def _add_video(self, threads: int) -> VideoStream:
        clip = self._clip
        options = {"crf": str(CRF), "preset": PRESET}
        stream = self._output.add_stream("libx264", rate=clip.rate, options=options)
        stream.width, stream.height, stream.pix_fmt = clip.width, clip.height, "yuv420p"
        stream.time_base = stream.codec_context.time_base = clip.time_base
        context = stream.codec_context
        context.thread_count = threads
        context.colorspace, context.color_range = clip.colours.matrix, _LIMITED_RANGE
        context.color_primaries, context.color_trc = clip.colours.primaries, clip.colours.transfer
        if clip.aspect:
            context.sample_aspect_ratio = clip.aspect
        context.open()
        return stream
