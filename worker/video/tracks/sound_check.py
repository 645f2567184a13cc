"""Finds out whether a stream of sound can be copied, and what its sound is like."""

from __future__ import annotations

from fractions import Fraction

from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.packet import Packet
from av.stream import Stream

from worker.jobs.limits import Limits
from worker.video.tracks.sound_decoder import SoundLength, decode_sound, start_of
from worker.video.tracks.timeline import SLACK_S

__all__ = ["COPIED", "SoundCheck"]

#: The codecs, by libav's names, that MP4 can hold and players play. PCM is here because it is lossless.
COPIED = (
    "aac,mp3,ac3,eac3,alac,flac,opus,pcm_s16le,pcm_s16be,pcm_s24le,pcm_s24be,pcm_s32le,pcm_s32be,"
    "pcm_f32le,pcm_f32be,pcm_f64le,pcm_f64be"
)


class SoundCheck:
    """The check of one stream of sound, packet by packet.

    `first` is the first decoded frame, or None if there is no sound. `reason` says why the stream cannot be
    copied, or is None.
    """

    def __init__(self, stream: AudioStream, limits: Limits) -> None:
        self._stream = stream
        self._length = SoundLength(limits)
        self._last_dts: int | None = None
        self._end: Fraction | None = None
        self.first: AudioFrame | None = None
        self.reason: str | None = None
        if stream.codec.canonical_name not in COPIED.split(","):
            self.reason = "MP4 cannot hold this codec, or few players play it there."

    def add(self, packet: Packet[Stream]) -> None:
        """Check the next packet. Once it is clear what to do with the stream, this does nothing.

        Raises `BadVideo` if the sound is too long.
        """
        if self.reason and self.first:
            return
        last, self._last_dts = self._last_dts, packet.dts
        if packet.pts is None or packet.dts is None or (last is not None and packet.dts <= last):
            self._refuse("Its times are missing or do not rise.")
        if packet.is_corrupt:
            self._refuse("It is damaged.")
        for frame in decode_sound(self._stream, packet):
            if frame is None:
                self._refuse("It is damaged.")
            else:
                self._check_frame(frame)

    def _check_frame(self, frame: AudioFrame) -> None:
        self.first = first = self.first or frame
        if (frame.sample_rate, frame.layout) != (first.sample_rate, first.layout):
            self._refuse("Its sample rate or channels change.")
        start = start_of(frame)
        if start is not None and self._end is not None and abs(start - self._end) >= SLACK_S:
            self._refuse("It has gaps or overlaps.")
        start = (self._end or Fraction(0)) if start is None else start
        self._end = start + Fraction(frame.samples, frame.sample_rate)
        if not self.reason:
            self._length.check(self._end)

    def _refuse(self, reason: str) -> None:
        self.reason = self.reason or reason
