"""Copies the packets of a stream without decoding them."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream

from worker.video.tracks.channels import simplify_layout

__all__ = ["CopiedTrack"]

#: A packet of 3GPP Timed Text that shows nothing: the length of its text is 0.
_EMPTY_TEXT = bytes(2)


class CopiedTrack:
    """A track of `output` with the packets of `source`. The first one has the time `start`, in seconds."""

    silence_s = 0.0
    start: Fraction | None = None

    def __init__(self, output: OutputContainer, source: Stream) -> None:
        self.stream = _add_stream(output, source)

    def convert(self, packet: Packet[Stream]) -> Iterator[Packet[Stream]]:
        """Yield the packet as one of the track, but no empty text: the muxer fills the gaps between texts."""
        if self.stream.type == "subtitle" and bytes(packet) == _EMPTY_TEXT:
            return
        if self.start is None and packet.pts is not None:
            self.start = packet.pts * packet.time_base
        packet.stream = self.stream
        yield packet

    def finish(self) -> Iterator[Packet[Stream]]:
        """Yield nothing: no packets are held back."""
        yield from ()


def _add_stream(output: OutputContainer, source: Stream) -> Stream:
    """Add a stream for the packets of `source` to the output.

    MP4 cannot hold PCM whose channels have no positions. Such a stream gets libav's usual layout for its
    number of channels, which libav names `2c`, `3c` and so on up to `8c`.
    """
    if isinstance(source, AudioStream) and source.codec_context.name.startswith("pcm_"):
        simplify_layout(source.codec_context)
        context, channels = source.codec_context, source.codec_context.channels
        if context.layout.name == f"{channels} channels" and 2 <= channels <= 8:
            return output.add_stream(context.name, rate=context.rate, layout=f"{channels}c")
    return output.add_stream_from_template(source)
