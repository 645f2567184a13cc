"""Converts text subtitles to the form that MP4 holds, 3GPP Timed Text (`mov_text`)."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import av
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream
from av.subtitles.stream import SubtitleStream
from av.subtitles.subtitle import AssSubtitle, SubtitleSet

from worker.jobs.limits import Limits

__all__ = ["EncodedSubtitles"]

#: Seconds for which a subtitle without a duration is shown.
DURATION_S = 3
#: The most subtitles that are shown at once. Scripts that draw pictures with text have more.
MAX_SHOWN = 8
#: The number of fields before the text in a line of a script, as libav's decoders return it.
_FIELDS = 8
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
    """A track of `output` with the text subtitles of `source`. Subtitles later than `limits` are left out.

    MP4 cannot hold subtitles that overlap. So where several are shown at once, the track has one with all of
    their texts.
    """

    silence_s = 0.0
    start = None

    def __init__(self, output: OutputContainer, source: SubtitleStream, limits: Limits) -> None:
        self._source = source
        self._limits = limits
        #: The ends, in milliseconds, and the texts of the subtitles that are shown at `_now`.
        self._shown: list[tuple[int, bytes]] = []
        self._now = 0
        self._encoder = output.add_stream("mov_text")
        self._encoder.codec_context.subtitle_header = _HEADER
        self._encoder.time_base = self._encoder.codec_context.time_base = Fraction(1, 1000)
        self.stream: Stream = self._encoder

    def convert(self, packet: Packet[Stream]) -> Iterator[Packet[Stream]]:
        """Yield as `mov_text` what is shown until this packet. Leave it out if its text cannot be read."""
        start = ((packet.dts if packet.pts is None else packet.pts) or 0) * packet.time_base
        text = self._text(packet)
        if not text or start > self._limits.max_duration_s:
            return
        duration = round((packet.duration or 0) * packet.time_base * 1000) or DURATION_S * 1000
        yield from self._show_until(round(start * 1000))
        self._shown = [*self._shown, (self._now + duration, text)][-MAX_SHOWN:]

    def finish(self) -> Iterator[Packet[Stream]]:
        """Yield what is shown until the end."""
        yield from self._show_until(max((end for end, _ in self._shown), default=0))

    def _show_until(self, time: int) -> Iterator[Packet[Stream]]:
        while self._shown and self._now < time:
            stop = min(time, *(end for end, _ in self._shown))
            yield from self._encode(b"\\N".join(text for _, text in self._shown), self._now, stop)
            self._now = stop
            self._shown = [(end, text) for end, text in self._shown if end > stop]
        self._now = max(self._now, time)

    def _text(self, packet: Packet[Stream]) -> bytes:
        """Return the text of a packet in the form of a script (ASS), or nothing."""
        try:
            subtitle = self._source.codec_context.decode2(packet)
        except MemoryError:
            raise
        except av.FFmpegError:
            return b""
        lines = [part.ass for part in subtitle or () if isinstance(part, AssSubtitle)]
        return b"\\N".join(line.split(b",", _FIELDS)[-1] for line in lines)

    def _encode(self, text: bytes, start: int, stop: int) -> Iterator[Packet[Stream]]:
        line = b"0,0,Default,,0,0,0,," + text
        try:
            packet = self._encoder.codec_context.encode_subtitle(SubtitleSet.create(line, 0, stop - start))
        except MemoryError:
            raise
        except av.FFmpegError:
            return
        packet.pts = packet.dts = start
        packet.duration, packet.time_base = stop - start, Fraction(1, 1000)
        packet.stream = self.stream
        yield packet
