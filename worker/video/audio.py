"""Copies a clip's audio packets, untouched, beside the new video."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream

from worker.jobs.errors import BadVideo


class AudioCopy:
    """The audio streams of `source` that `output` can hold; any others are left out.

    `start` is where the earliest of them begins, in seconds, or None.
    """

    def __init__(self, source: Path, output: OutputContainer) -> None:
        self._source = av.open(source, options={"protocol_whitelist": "file"})
        self._output = output
        self._copies: dict[int, AudioStream] = {
            stream.index: output.add_stream_from_template(stream)
            for stream in self._source.streams.audio
            if getattr(stream.codec_context, "name", None) in output.supported_codecs
        }
        kept = [self._source.streams[index] for index in self._copies]
        starts = [
            stream.start_time * stream.time_base
            for stream in kept
            if stream.start_time is not None and stream.time_base
        ]
        self.start: Fraction | None = min(starts, default=None)
        self._packets = self._demux(list(self._copies)) if kept else iter(())

    def mux_until(self, end: Fraction | None, shift: Fraction) -> None:
        """Write the packets that begin before `end` (None: all), `shift` earlier; both in seconds.

        Raises BadVideo where the audio is cut off or damaged.
        """
        for packet in self._packets:
            if end is not None and (packet.dts or 0) * packet.time_base >= end:
                self._packets = chain([packet], self._packets)
                return
            ticks = round(shift / packet.time_base)
            packet.pts = None if packet.pts is None else packet.pts - ticks
            packet.dts = None if packet.dts is None else packet.dts - ticks
            packet.stream = self._copies[packet.stream_index]
            self._output.mux(packet)

    def close(self) -> None:
        """Close the source."""
        self._source.close()

    def _demux(self, indexes: list[int]) -> Iterator[Packet[Stream]]:
        try:
            for packet in self._source.demux([self._source.streams[index] for index in indexes]):
                if packet.is_corrupt:
                    raise BadVideo("The clip's audio is cut off or damaged.")
                if packet.dts is not None:
                    yield packet
        except av.FFmpegError as error:
            raise BadVideo(f"The clip's audio cannot be read to its end ({error.strerror}).") from error
