"""Converts text subtitles to the form that MP4 holds, 3GPP Timed Text (`mov_text`)."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import av
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream
from av.subtitles.stream import SubtitleStream

from worker.jobs.limits import Limits

__all__ = ["EncodedSubtitles"]

#: Seconds for which a subtitle without a duration is shown.
DURATION_S = 3
#: The encoder needs the header of a script, in which libav's decoders hand over subtitles (SSA 4.00+).
_HEADER = b"""[Script Info]
ScriptType: v4.00+
PlayResX: 384
PlayResY: 288

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, Italic, \
Underline, StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, Alignment, MarginL, \
MarginR, MarginV, Encoding
Style: Default,Arial,16,&Hffffff,&Hffffff,&H0,&H0,0,0,0,0,100,100,0,0,1,1,0,2,10,10,10,1

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""


class EncodedSubtitles:
    """A track of `output` with the text subtitles of `source`. Subtitles later than `limits` are left out."""

    silence_s = 0.0
    start = None

    def __init__(self, output: OutputContainer, source: SubtitleStream, limits: Limits) -> None:
        self._source = source
        self._limits = limits
        self._last = 0
        self._encoder = output.add_stream("mov_text")
        self._encoder.codec_context.subtitle_header = _HEADER
        self._encoder.time_base = self._encoder.codec_context.time_base = Fraction(1, 1000)
        self.stream: Stream = self._encoder

    def convert(self, packet: Packet[Stream]) -> Iterator[Packet[Stream]]:
        """Yield the packet as `mov_text`, or nothing if it has no text that can be read."""
        start = ((packet.dts if packet.pts is None else packet.pts) or 0) * packet.time_base
        try:
            subtitle = self._source.codec_context.decode2(packet)
            if subtitle is None or start > self._limits.max_duration_s:
                return
            text = self._encoder.codec_context.encode_subtitle(subtitle)
        except MemoryError:
            raise
        except av.FFmpegError:
            return
        self._last = max(self._last, round(start * 1000))
        text.pts = text.dts = self._last
        text.duration = round((packet.duration or 0) * packet.time_base * 1000) or DURATION_S * 1000
        text.time_base = Fraction(1, 1000)
        text.stream = self.stream
        yield text

    def finish(self) -> Iterator[Packet[Stream]]:
        """Yield nothing: the encoder holds no packets back."""
        yield from ()
