"""Copies the tracks of sound and subtitles, which were made before the first batch, into the result."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream

from worker.jobs.media.probe.probe import open_media
from worker.video.decoding.continuity import delay
from worker.video.tracks.copied import CopiedTrack
from worker.video.tracks.stream_tags import copy_stream_tags

__all__ = ["TrackCopy"]


class TrackCopy:
    """Copier of all tracks in `source`, whose times are `lead` seconds later than the clip's, to `output`."""

    def __init__(self, source: Path, output: OutputContainer, lead: Fraction) -> None:
        self._lead = lead
        self._source = open_media(source, "mov")
        self._output = output
        audio, subtitles = self._source.streams.audio, self._source.streams.subtitles
        self._tracks = {}
        for stream in sorted([*audio, *subtitles], key=lambda stream: stream.index):
            track = self._tracks[stream.index] = CopiedTrack(output, stream)
            copy_stream_tags(stream, track.stream)
        self._packets = (packet for packet in self._source.demux() if packet.dts is not None)
        self._next: Packet[Stream] | None = next(self._packets, None)

    def mux_until(self, end: Fraction | None, shift: Fraction) -> None:
        """Write the packets that begin before `end` (all that remain if None), moved earlier by `shift`.

        Both are in seconds; `end` is a time of the clip.
        """
        end, shift = end if end is None else end + self._lead, shift + self._lead
        while (packet := self._next) is not None:
            if end is not None and (packet.dts or 0) * packet.time_base >= end:
                return
            delay(packet, -shift)
            self._output.mux(list(self._tracks[packet.stream.index].convert(packet)))
            self._next = next(self._packets, None)

    def close(self) -> None:
        """Close the source file. The output stays open."""
        self._source.close()
