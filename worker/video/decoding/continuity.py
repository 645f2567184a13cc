"""Continues the times of a clip where a recording restarts its clock, as joined recordings do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from fractions import Fraction

from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream

__all__ = ["continuous_packets"]

#: Seconds by which a time may be less than the one before it without being a restart of the clock.
MAX_BACK_S = Fraction(1, 2)
#: The most packets that are held back until it is clear whether the clock was restarted.
MAX_HELD = 100
#: The most packets of pictures of the part before that may arrive after the first packet of the next part.
MAX_LATE = 5


def continuous_packets(container: InputContainer, video: Stream) -> Iterator[Packet[Stream]]:
    """Yield the packets of `video`, and of all sound and subtitles, in the file's order.

    If the decoding times (dts) of the pictures jump back, the clock was restarted. Then the later times of
    all streams are raised, so that the next part begins when the part before it has ended in all streams.
    Sound whose own times jump back, while those of the pictures go on, keeps its times.
    """
    clock = _Clock()
    held: list[Packet[Stream]] = []
    jumped: set[int] = set()
    late = 0
    for packet in _demux(container, video):
        index = packet.stream.index
        is_held = bool(packet.size) and (index in jumped or clock.is_restarted(packet))
        if is_held:
            held.append(packet)
            jumped.add(index)
            is_decided = jumped >= clock.streams or len(held) == MAX_HELD
        else:
            late += index == video.index
            is_decided = late > MAX_LATE or not packet.size
        if held and is_decided:
            if video.index in jumped:
                clock.restart(held)
            yield from map(clock.apply, held)
            held.clear()
            jumped.clear()
        late = late if held else 0
        if not is_held:
            yield clock.apply(packet)


def _demux(container: InputContainer, video: Stream) -> Iterator[Packet[Stream]]:
    streams = container.streams
    with suppress(IndexError):  # PyAV 18 raises it at the end if a stream began in the middle of the file
        yield from container.demux(video, *streams.audio, *streams.subtitles)


class _Clock:
    """The offsets, in seconds, that make the times of each stream continue.

    A stream takes over the newest offset when its own times jump back, because packets of the part before may
    arrive late.
    """

    def __init__(self) -> None:
        self._newest = self._end = Fraction(0)
        self._offsets: dict[int, Fraction] = {}
        self._last: dict[int, Fraction] = {}
        self._streams = set[int]()

    @property
    def streams(self) -> set[int]:
        """The indices of the streams of pictures and sound that have had packets."""
        return self._streams

    def is_restarted(self, packet: Packet[Stream]) -> bool:
        """Return whether the packet's time jumps back, and no known restart of the clock explains that."""
        if not self._jumps_back(packet):
            return False
        if self._offsets.get(packet.stream.index, Fraction(0)) == self._newest:
            return True
        self._offsets[packet.stream.index] = self._newest
        return self._jumps_back(packet)

    def restart(self, packets: Iterable[Packet[Stream]]) -> None:
        """Begin a new part with these packets, each of which jumps back."""
        first: dict[int, Packet[Stream]] = {}
        for packet in packets:
            first.setdefault(packet.stream.index, packet)
        self._newest = self._end - min(_start(packet) for packet in first.values())
        self._offsets |= dict.fromkeys(first, self._newest)

    def apply(self, packet: Packet[Stream]) -> Packet[Stream]:
        """Return the packet with times that continue."""
        if packet.dts is None and packet.pts is None:
            return packet
        if offset := self._offsets.get(packet.stream.index, Fraction(0)):
            ticks = round(offset / packet.time_base)
            packet.pts = None if packet.pts is None else packet.pts + ticks
            packet.dts = None if packet.dts is None else packet.dts + ticks
        if packet.dts is not None:
            self._last[packet.stream.index] = packet.dts * packet.time_base
            if packet.stream.type != "subtitle":
                self._streams.add(packet.stream.index)
        self._end = max(self._end, _start(packet) + (packet.duration or 0) * packet.time_base)
        return packet

    def _jumps_back(self, packet: Packet[Stream]) -> bool:
        last = self._last.get(packet.stream.index)
        if last is None or packet.dts is None:
            return False
        time = packet.dts * packet.time_base + self._offsets.get(packet.stream.index, Fraction(0))
        return time < last - MAX_BACK_S


def _start(packet: Packet[Stream]) -> Fraction:
    """Return the time in seconds at which the packet is shown or heard."""
    return ((packet.dts if packet.pts is None else packet.pts) or 0) * packet.time_base
