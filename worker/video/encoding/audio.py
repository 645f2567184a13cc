"""Copies a clip's audio packets, untouched, beside the new video."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream

from worker.jobs.media.probe import CLIPS, open_media


class AudioCopy:
    """The audio streams of `source` that `output` can hold; any others are left out.

    `start` is where the earliest of them begins, in seconds, or None.
    """

    def __init__(self, source: Path, output: OutputContainer) -> None:
        self._source = open_media(source, CLIPS)
        self._output = output
        names = output.supported_codecs
        streams = [s for s in self._source.streams.audio if getattr(s.codec_context, "name", None) in names]
        self._copies = {stream.index: _add(output, stream) for stream in streams}
        starts = [s.start_time * s.time_base for s in streams if s.start_time is not None and s.time_base]
        self.start: Fraction | None = min(starts, default=None)
        packets = self._source.demux(streams) if streams else ()
        self._packets = (packet for packet in packets if packet.dts is not None)
        self._next: Packet[Stream] | None = next(self._packets, None)

    def mux_until(self, end: Fraction | None, shift: Fraction) -> None:
        """Write the packets that begin before `end` (None: all), `shift` earlier; both in seconds."""
        while (packet := self._next) is not None:
            if end is not None and (packet.dts or 0) * packet.time_base >= end:
                return
            ticks = round(shift / packet.time_base)
            packet.pts = None if packet.pts is None else packet.pts - ticks
            packet.dts = None if packet.dts is None else packet.dts - ticks
            packet.stream = self._copies[packet.stream_index]
            self._output.mux(packet)
            self._next = next(self._packets, None)

    def close(self) -> None:
        """Close the source."""
        self._source.close()


def _add(output: OutputContainer, source: AudioStream) -> Stream:
    """A stream for the packets of `source`. MP4 has no PCM whose channels' places are not known."""
    context, channels = source.codec_context, source.codec_context.channels
    nowhere = context.name.startswith("pcm_") and context.layout.name == f"{channels} channels"
    if nowhere and 2 <= channels <= 8:  # libav has a usual layout for so many, which it calls `2c`
        return output.add_stream(context.name, rate=context.rate, layout=f"{channels}c")
    return output.add_stream_from_template(source)
