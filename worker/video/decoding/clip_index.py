"""The index of a clip: the times of all its frames, and where a decoder can begin. Nothing is decoded."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from worker.jobs.limits import Limits
from worker.video.decoding.header import tick_length
from worker.video.decoding.packet_content import PacketContent, content_reader

__all__ = ["AccessPoint", "ClipIndex", "read_index"]

#: The formats that state the time of each frame, by libav's names. Recordings and old formats do not.
_INDEXED = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"}


@dataclass(frozen=True, slots=True)
class AccessPoint:
    """A packet at which a decoder can begin. It then shows frame `number`, and all later ones.

    `pts` and `dts` are the packet's times. `ticks` is the sum of the durations of the packets before it.
    """

    number: int
    pts: int
    dts: int
    ticks: int


@dataclass(frozen=True, slots=True)
class ClipIndex:
    """The display times of all frames in ticks, in order, and the access points. The first is at frame 0."""

    times: Sequence[int]
    access_points: Sequence[AccessPoint]

    def before(self, number: int) -> AccessPoint:
        """Return the last access point from which frame `number` is shown."""
        place = bisect_right(self.access_points, number, key=lambda point: point.number)
        return self.access_points[max(0, place - 1)]


def read_index(container: InputContainer, stream: VideoStream, limits: Limits) -> ClipIndex | None:
    """Read all packets of the pictures. Return None if it is not certain which frames a decoder will show.

    A clip that exceeds `limits`, or whose packets are damaged, has no index.
    """
    packets = _Packets(stream, limits)
    try:
        if container.format.name not in _INDEXED or not all(map(packets.add, _pictures(container, stream))):
            return None
    except MemoryError:  # libav's MemoryError is an FFmpegError too
        raise
    except av.FFmpegError:
        return None
    return packets.index()


def _pictures(container: InputContainer, stream: VideoStream) -> Iterator[Packet[VideoStream]]:
    """Yield the packets of the stream, without the one that says that it ends."""
    return (packet for packet in container.demux(stream) if packet.size or packet.pts is not None)


class _Packets:
    """The packets of a clip so far, in decoding order."""

    def __init__(self, stream: VideoStream, limits: Limits) -> None:
        self._read = content_reader(stream)
        self._limits = limits
        self._latest = limits.max_duration_s / float(tick_length(stream))
        self._times: list[int] = []
        self._points: list[AccessPoint] = []
        self._parameters: frozenset[bytes] | None = None
        self._ticks = self._longest = 0
        self._last_pts = self._last_dts = -(2**63)

    def add(self, packet: Packet[VideoStream]) -> bool:
        """Add the next packet. Return whether the clip may still have an index."""
        pts, dts = packet.pts, packet.dts
        if not self._read or pts is None or packet.is_corrupt or not packet.size:
            return False
        if (dts is not None and dts <= self._last_dts) or packet.has_sidedata("new_extradata"):
            return False
        content = self._read(memoryview(packet), packet.is_keyframe)
        if not content or not self._begins_well(content):
            return False
        if content.access_point and pts > self._last_pts:
            self._points.append(AccessPoint(0, pts, pts if dts is None else dts, self._ticks))
        self._last_pts = max(self._last_pts, pts)
        self._last_dts = self._last_dts if dts is None else dts
        if not packet.is_discard:  # an edit list leaves out the others
            self._ticks += packet.duration or 0
            self._longest = max(self._longest, packet.duration or 0)
            self._times.append(pts)
        return len(self._times) <= self._limits.max_frames

    def _begins_well(self, content: PacketContent) -> bool:
        """Return whether a decoder may begin at the first packet, and at others with the same parameters."""
        if self._parameters is None:
            self._parameters = content.parameters
            return content.access_point
        return content.parameters == (self._parameters if content.access_point else frozenset())

    def index(self) -> ClipIndex | None:
        """Return the index of the clip of these packets, or None."""
        times = sorted(self._times)
        if not times or any(one == other for one, other in pairwise(times)) or times[0] < self._points[0].pts:
            return None
        if max(times[-1] + self._longest - times[0], self._ticks) > self._latest:
            return None
        points = [replace(point, number=bisect_left(times, point.pts)) for point in self._points]
        return ClipIndex(times, [point for point in points if point.number < len(times)])
