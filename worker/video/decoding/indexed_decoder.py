"""Decodes a clip from the access point before any of its frames on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import av
from av.codec.hwaccel import HWAccel
from av.packet import Packet
from av.stream import Stream
from av.video.frame import VideoFrame

from worker.jobs.errors import BadVideo
from worker.jobs.limits import Limits
from worker.jobs.media.probe.probe import CLIPS
from worker.video.decoding.clip_file import check_complete, open_clip_file
from worker.video.decoding.clip_index import AccessPoint, read_index
from worker.video.decoding.damage import DamageFound, TolerantDecoder
from worker.video.decoding.frame_times import FrameTimes
from worker.video.decoding.header import ClipEnd

__all__ = ["IndexedDecoder", "NotIndexed"]


class NotIndexed(Exception):
    """It is not certain which number a frame of the clip has, unless all frames are decoded."""


class IndexedDecoder:
    """Decoder of a clip whose index tells the times of all frames.

    The constructor raises `NotIndexed` for other clips, and `BadVideo` as `open_clip_file` does. `frames`
    raises `NotIndexed` if what it finds is not what the index says, or is damaged.
    """

    #: The decoder, as results name it.
    name = "libav"

    def __init__(self, path: Path, limits: Limits, *, progressive: bool) -> None:
        """Open the clip and read its index. If it must be `progressive`, interlaced frames have no index."""
        self._open(path, limits)
        try:
            index = read_index(self._container, self.stream, limits)
            if index is None:
                raise NotIndexed
            check_complete(self._container, path)
        except BadVideo as error:
            self.close()
            raise NotIndexed from error
        except BaseException:
            self.close()
            raise
        self.index, self.progressive = index, progressive

    def _open(self, path: Path, limits: Limits, hwaccel: HWAccel | None = None) -> None:
        self._container, self.stream = open_clip_file(path, limits, CLIPS, hwaccel)
        self._decoder = TolerantDecoder(self.stream, limits.max_pixels, threaded=True)

    @property
    def end(self) -> ClipEnd:
        """The facts about the clip's end, when its last frame was decoded."""
        return ClipEnd(self._times.end)

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def frames(self, point: AccessPoint) -> Iterator[VideoFrame]:
        """Yield the frames from the access point on."""
        self._times = FrameTimes(self.stream)
        times = self.index.times
        number = point.number
        if number:
            self._times.skip(times[0], times[number - 1], point.ticks)
        try:
            for packet in self._packets(point):
                frames = self._decoder.decode(packet) or ()
                self._times.add(packet)
                for frame in frames:
                    if frame.pts is not None and frame.pts < times[point.number]:
                        continue  # it may refer to frames before the access point
                    self._check(frame, number)
                    yield frame
                    number += 1
        except MemoryError:  # libav's MemoryError is an FFmpegError too
            raise
        except (av.FFmpegError, DamageFound, BadVideo) as error:
            raise NotIndexed from error
        if number != len(times):
            raise NotIndexed

    def _packets(self, point: AccessPoint) -> Iterator[Packet[Stream]]:
        """Yield the packets from the access point on. The container may begin to read at one before it."""
        self._container.seek(point.dts, stream=self.stream)  # MP4 has an index of decoding times
        found, stream = False, cast(Stream, self.stream)
        for packet in self._container.demux(stream):
            found = found or packet.pts == point.pts
            if found:
                yield packet

    def _check(self, frame: VideoFrame, number: int) -> None:
        if number >= len(self.index.times) or self._times.place(frame) != self.index.times[number]:
            raise NotIndexed
        if self.progressive and frame.interlaced_frame:
            raise NotIndexed
        frame.pts = self.index.times[number]
