"""Copies a clip's audio packets into the result without decoding them."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream

from worker.jobs.media.probe.probe import CLIPS, open_media

__all__ = ["AudioCopy"]


class AudioCopy:
    """Copier of the audio streams of `source` that `output` can hold. It leaves out the others.

    `start` is the start of the earliest copied stream in seconds, or None if no stream has a start time.
    """

    def __init__(self, source: Path, output: OutputContainer) -> None:
        self._source = open_media(source, CLIPS)
        self._output = output
        names = output.supported_codecs
        streams = [s for s in self._source.streams.audio if getattr(s.codec_context, "name", None) in names]
        self._copies = {stream.index: _add_stream(output, stream) for stream in streams}
        starts = [s.start_time * s.time_base for s in streams if s.start_time is not None and s.time_base]
        self.start: Fraction | None = min(starts, default=None)
        packets = self._source.demux(streams) if streams else ()
        self._packets = (packet for packet in packets if packet.dts is not None)
        self._next: Packet[Stream] | None = next(self._packets, None)

    def mux_until(self, end: Fraction | None, shift: Fraction) -> None:
        """Write the packets that begin before `end` (all that remain if None), moved earlier by `shift`.

        Both are in seconds; `end` is a time of the source.
        """
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
        """Close the source file. The output stays open."""
        self._source.close()


def _add_stream(output: OutputContainer, source: AudioStream) -> Stream:
    """Add a stream for the packets of `source` to the output.

    MP4 cannot hold PCM whose channels have no positions. Such a stream gets libav's usual layout for its
    number of channels, which libav names `2c`, `3c` and so on up to `8c`.
    """
    context, channels = source.codec_context, source.codec_context.channels
    no_positions = context.name.startswith("pcm_") and context.layout.name == f"{channels} channels"
    if no_positions and 2 <= channels <= 8:
        return output.add_stream(context.name, rate=context.rate, layout=f"{channels}c")
    return output.add_stream_from_template(source)
