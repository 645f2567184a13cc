"""Decodes a clip with the video decoder of an NVIDIA GPU (NVDEC)."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
from av.codec.hwaccel import HWAccel
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from worker.jobs.errors import BadVideo
from worker.jobs.limits import Limits
from worker.video.decoding.ahead import decode_ahead
from worker.video.decoding.clip_index import AccessPoint
from worker.video.decoding.indexed_decoder import IndexedDecoder, NotIndexed

__all__ = ["NvdecDecoder"]

#: The codecs of which every data centre GPU decodes 4:2:0 with 8 bits. Their standards define each bit of a
#: frame, so its pixels are those of libav's decoder.
_CODECS = {"h264", "hevc", "vp9"}
#: The least work, in pixels of all frames, that makes up for the 0.3 s in which a process opens the GPU: 300
#: frames of 1280x720.
MIN_PIXELS = 300 * 1280 * 720


class NvdecDecoder(IndexedDecoder):
    """Decoder of the clip of `indexed` on the GPU that the process sees.

    The GPU does not say which frames are damaged inside. `frames` raises `NotIndexed` for what is noticed:
    headers of pictures that cannot be read, frames that are missing, and failures of the GPU. The constructor
    raises it if there is no GPU, or the clip is not suited for it.
    """

    name = "nvdec"

    def __init__(self, path: Path, limits: Limits, indexed: IndexedDecoder) -> None:
        if not _is_suited(indexed):
            raise NotIndexed
        try:
            self._open(path, limits, HWAccel("cuda", allow_software_fallback=False))
        except (av.FFmpegError, BadVideo, MemoryError, RuntimeError) as error:
            raise NotIndexed from error
        # Threads of libav would only wait for the GPU, and each takes its memory.
        self.stream.codec_context.thread_count = 1
        self.index, self.progressive = indexed.index, indexed.progressive
        self._reformatter = VideoReformatter()
        # libav waits for the GPU without using the CPU.
        self._thread = ThreadPoolExecutor(1, "nvdec")

    def close(self) -> None:
        """Wait for the frame that is being decoded, and close the file."""
        self._thread.shutdown(cancel_futures=True)
        super().close()

    def frames(self, point: AccessPoint) -> Iterator[VideoFrame]:
        """Yield the frames from the access point on, in the host's memory."""
        try:
            yield from map(self._to_planes, decode_ahead(super().frames(point), self._thread))
        except MemoryError as error:  # the GPU's
            raise NotIndexed from error

    def _to_planes(self, frame: VideoFrame) -> VideoFrame:
        """Return the frame in the format of libav's decoder. The GPU interleaves the colour differences."""
        if frame.format.name != "nv12":
            raise NotIndexed
        planes = self._reformatter.reformat(frame, format="yuv420p", threads=1)
        planes.colorspace = frame.colorspace  # the scaler takes one name for another of the same matrix
        return planes


def _is_suited(indexed: IndexedDecoder) -> bool:
    stream = indexed.stream
    return (
        stream.codec_context.name in _CODECS
        and stream.pix_fmt == "yuv420p"
        and stream.width * stream.height * len(indexed.index.times) >= MIN_PIXELS
    )
