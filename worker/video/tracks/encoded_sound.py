"""Encodes a stream of sound as AAC."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream

from worker.jobs.limits import Limits
from worker.video.tracks.sound_decoder import SoundLength, decode_sound, start_of
from worker.video.tracks.sound_times import SoundTimes
from worker.video.tracks.timeline import Timeline

__all__ = ["EncodedSound"]

#: The sample rates of AAC (ISO/IEC 14496-3, table 1.18). Sound with another one gets `OTHER_RATE`.
RATES = frozenset(
    (96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000)
)
OTHER_RATE = 48_000
#: The layouts of AAC by number of channels. Sound with more channels becomes stereo.
LAYOUTS = {1: "mono", 2: "stereo", 3: "5.1", 4: "5.1", 5: "5.1", 6: "5.1", 7: "7.1", 8: "7.1"}
#: Bits a second for each channel. AAC allows at most six bits a sample.
CHANNEL_BITS_S = 96_000


class EncodedSound:
    """A track of `output` in AAC with the sound of `source`, whose first decoded frame is `first`.

    The sound keeps its times. Silence fills gaps, and what overlaps is left out. If the sample rate or the
    channels change, the sound is converted to those of `first`.
    """

    def __init__(
        self, output: OutputContainer, source: AudioStream, first: AudioFrame, limits: Limits
    ) -> None:
        self._source = source
        self._rate = first.sample_rate if first.sample_rate in RATES else OTHER_RATE
        self._layout = LAYOUTS.get(first.layout.nb_channels, "stereo")
        self._timeline = Timeline(self._rate)
        self._resampler: AudioResampler | None = None
        self._form: tuple[int, str, str] | None = None
        self._times = SoundTimes(first.sample_rate)
        self._length = SoundLength(limits)
        self._encoder = output.add_stream("aac", rate=self._rate, layout=self._layout)
        bits_s = min(CHANNEL_BITS_S, 4 * self._rate)
        self._encoder.bit_rate = bits_s * self._encoder.codec_context.channels
        self.stream: Stream = self._encoder

    @property
    def start(self) -> Fraction | None:
        """The time in seconds at which the sound begins.

        The first packet begins earlier, because the encoder puts samples of its own first.
        """
        return self._timeline.start

    @property
    def silence_s(self) -> float:
        """The silence that was inserted, in seconds."""
        return self._timeline.silence / self._rate

    def convert(self, packet: Packet[Stream]) -> Iterator[Packet[Stream]]:
        """Yield the packets of AAC that a packet of the source completes. Raises `BadVideo`."""
        yield from self._decode(packet)

    def finish(self) -> Iterator[Packet[Stream]]:
        """Yield the last packets. Raises `BadVideo`."""
        yield from self._decode(None)
        for start, frame in self._times.finish():
            yield from self._convert(start, frame)
        yield from self._end_form()
        yield from self._encoder.encode(None)

    def _decode(self, packet: Packet[Stream] | None) -> Iterator[Packet[Stream]]:
        for decoded in decode_sound(self._source, packet):
            for start, frame in self._times.add(decoded) if decoded else ():
                yield from self._convert(start, frame)

    def _convert(self, start: Fraction | None, frame: AudioFrame) -> Iterator[Packet[Stream]]:
        if start is not None and not self._length.has(start):
            start = None  # no clip is so long
        frame.time_base = Fraction(1, frame.sample_rate)
        frame.pts = None if start is None else round(start * frame.sample_rate)
        form = frame.sample_rate, frame.layout.name, frame.format.name
        if form != self._form:
            yield from self._end_form()
            self._form = form
            self._resampler = AudioResampler("flt", self._layout, self._rate)
        yield from self._resample(frame)

    def _end_form(self) -> Iterator[Packet[Stream]]:
        """Encode what the resampler still holds."""
        yield from self._resample(None)
        self._resampler = None

    def _resample(self, frame: AudioFrame | None) -> Iterator[Packet[Stream]]:
        """Encode the frame after its conversion. Leave it out if libav cannot convert its channels."""
        if self._resampler is None:
            return
        try:
            converted = self._resampler.resample(frame)
        except MemoryError:
            raise
        except av.FFmpegError:
            return
        yield from self._encode(converted)

    def _encode(self, frames: list[AudioFrame]) -> Iterator[Packet[Stream]]:
        """Encode frames of packed samples: PyAV cannot make planar frames of eight channels."""
        for frame in frames:
            packed = frame.to_ndarray().astype(np.float32, copy=False).reshape(frame.samples, -1)
            for sound in self._timeline.place(start_of(frame), packed):
                piece = AudioFrame.from_ndarray(sound.reshape(1, -1), "flt", self._layout)
                piece.sample_rate, piece.time_base = self._rate, Fraction(1, self._rate)
                piece.pts = self._timeline.position - len(sound)
                self._length.check(Fraction(self._timeline.position, self._rate))
                yield from self._encoder.encode(piece)
