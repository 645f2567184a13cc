"""Continues the times of a clip where a recording restarts its clock, as joined recordings do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from fractions import Fraction

from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream

from worker.jobs.media.probe.duration import MPEG_CLOCK_S, MPEG_FORMATS

__all__ = ["continuous_packets", "delay"]

#: Seconds by which a time may be less than the one before it without being a restart of the clock.
MAX_BACK_S = Fraction(1, 2)
#: Seconds by which the sound in a file may lag behind the pictures beside it, without being of the next part.
MAX_SKEW_S = Fraction(3, 2)
#: The most packets that are held back until it is clear whether the clock was restarted.
MAX_HELD = 100
#: The most packets of pictures of the part before that may arrive after the first packet of the next part.
MAX_LATE = 5


def continuous_packets(container: InputContainer, video: Stream) -> Iterator[Packet[Stream]]:
    """Yield the packets of `video`, and of all sound and subtitles, in the file's order.

    If the decoding times (dts) of the pictures jump back, the clock was restarted. Then the later times of
    all streams are raised, so that the next part begins when the part before it has ended in all streams.
    Sound whose own times jump back, while those of the pictures go on, keeps its times. A part may lack sound
    that others have.
    """
    clock = _Clock(video.index)
    held: list[Packet[Stream]] = []
    jumped: set[int] = set()
    late = 0
    for packet in _demux(container, video):
        index = packet.stream.index
        if _is_next_part(packet, held):
            yield from clock.release(held)
            jumped.clear()
        is_held = bool(packet.size) and (index in jumped or clock.is_restarted(packet))
        if is_held:
            held.append(packet)
            jumped.add(index)
            is_decided = jumped >= clock.streams or len(held) == MAX_HELD or _skew(held, video) > MAX_SKEW_S
        else:
            late += index == video.index
            is_decided = late > MAX_LATE or not packet.size
        if held and is_decided:
            yield from clock.release(held)
            jumped.clear()
        late = late if held else 0
        if not is_held:
            yield clock.apply(packet)


def delay(packet: Packet[Stream], seconds: Fraction) -> None:
    """Move the packet's times later by so many seconds."""
    ticks = round(seconds / packet.time_base)
    packet.pts = None if packet.pts is None else packet.pts + ticks
    packet.dts = None if packet.dts is None else packet.dts + ticks


def _is_next_part(packet: Packet[Stream], held: list[Packet[Stream]]) -> bool:
    """Return whether the packet is behind one of its stream that is held: the clock was restarted again."""
    times = [_decoded(other) for other in held if other.stream.index == packet.stream.index]
    return bool(times and packet.size) and _decoded(packet) < times[-1] - MAX_BACK_S


def _skew(held: list[Packet[Stream]], video: Stream) -> Fraction:
    """Return for how many seconds pictures are held back."""
    times = [_decoded(packet) for packet in held if packet.stream.index == video.index]
    return times[-1] - times[0] if times else Fraction(0)


def _demux(container: InputContainer, video: Stream) -> Iterator[Packet[Stream]]:
    """Yield the packets. Undo what libav does to times before the first one of MPEG's clock.

    libav takes them for times after a wrap of the clock, but a recording that was joined may state any time.
    """
    streams = container.streams
    has_clock = container.format.name in MPEG_FORMATS
    first: Fraction | None = None
    with suppress(IndexError):  # PyAV 18 raises it at the end if a stream began in the middle of the file
        for packet in container.demux(video, *streams.audio, *streams.subtitles):
            if has_clock and packet.dts is not None:
                first = _decoded(packet) if first is None else first
                if _decoded(packet) - first > MPEG_CLOCK_S / 2:
                    delay(packet, -MPEG_CLOCK_S)
            yield packet


class _Clock:
    """The offsets, in seconds, that make the times of each stream continue.

    A stream takes over the newest offset when its own times jump back, because packets of the part before may
    arrive late.
    """

    def __init__(self, video: int) -> None:
        self._video = video
        self._newest = self._end = Fraction(0)
        self._offsets: dict[int, Fraction] = {}
        self._last: dict[int, Fraction] = {}
        self._streams = set[int]()

    @property
    def streams(self) -> set[int]:
        """The indices of the streams of pictures and sound that have had packets."""
        return self._streams

    def is_restarted(self, packet: Packet[Stream]) -> bool:
        """Return whether the packet may be of a new part, because no known restart of the clock explains it.

        Its time jumps back, or it is sound far behind the pictures.
        """
        index = packet.stream.index
        if self._jumps_back(packet):
            if self._offset(index) == self._newest:
                return True
            self._offsets[index] = self._newest
        return self._jumps_back(packet) or self._is_behind(packet)

    def release(self, held: list[Packet[Stream]]) -> Iterator[Packet[Stream]]:
        """Yield and forget the packets that were held. If there are pictures, they begin a new part."""
        if any(packet.stream.index == self._video for packet in held):
            self.restart(held)
        yield from map(self.apply, held)
        held.clear()

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
        if offset := self._offset(packet.stream.index):
            self._offsets[packet.stream.index] = offset
            delay(packet, offset)
        if packet.dts is not None:
            self._last[packet.stream.index] = packet.dts * packet.time_base
            if packet.stream.type != "subtitle":
                self._streams.add(packet.stream.index)
        self._end = max(self._end, _start(packet) + (packet.duration or 0) * packet.time_base)
        return packet

    def _offset(self, index: int) -> Fraction:
        """Return the offset of a stream. One that begins after a restart has the newest."""
        return self._offsets.get(index, Fraction(0) if index in self._last else self._newest)

    def _jumps_back(self, packet: Packet[Stream]) -> bool:
        """Return whether the time is less than its stream's, or than that of the pictures if it begins."""
        index = packet.stream.index if packet.stream.index in self._last else self._video
        return self._is_less(packet, index, MAX_BACK_S)

    def _is_behind(self, packet: Packet[Stream]) -> bool:
        return packet.stream.type == "audio" and self._is_less(packet, self._video, MAX_SKEW_S)

    def _is_less(self, packet: Packet[Stream], index: int, tolerance_s: Fraction) -> bool:
        last = self._last.get(index)
        if last is None or packet.dts is None:
            return False
        return _decoded(packet) + self._offset(packet.stream.index) < last - tolerance_s


def _decoded(packet: Packet[Stream]) -> Fraction:
    """Return the time in seconds at which the packet is decoded."""
    return (packet.dts or 0) * packet.time_base


def _start(packet: Packet[Stream]) -> Fraction:
    """Return the time in seconds at which the packet is shown or heard."""
    return ((packet.dts if packet.pts is None else packet.pts) or 0) * packet.time_base
