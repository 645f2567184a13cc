"""Decodes the sound of one stream, whatever is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.packet import Packet
from av.stream import Stream

from worker.jobs.errors import BadVideo
from worker.jobs.limits import Limits

__all__ = ["SoundLength", "decode_sound", "start_of"]

#: Seconds by which sound may be longer than a clip may be. It often ends a little later than the pictures.
MARGIN_S = 1


def decode_sound(stream: AudioStream, packet: Packet[Stream] | None) -> Iterator[AudioFrame | None]:
    """Yield the frames of a packet, or those that the decoder still holds.

    The last frame is None if the packet is damaged.
    """
    try:
        yield from stream.decode(packet) if packet else stream.codec_context.decode(None)
    except MemoryError:  # libav's MemoryError is an FFmpegError too
        raise
    except av.FFmpegError:
        yield None


def start_of(frame: AudioFrame) -> Fraction | None:
    """Return the time in seconds at which the frame is heard, or None if it does not say."""
    return None if frame.pts is None or not frame.time_base else frame.pts * frame.time_base


class SoundLength:
    """The longest that the sound of a stream may last under `limits`, from its first time on."""

    def __init__(self, limits: Limits) -> None:
        self._max_s = limits.max_duration_s
        self._first: Fraction | None = None

    def has(self, time: Fraction) -> bool:
        """Return whether this time, in seconds, is not too late."""
        self._first = time if self._first is None else self._first
        return time - self._first <= self._max_s + MARGIN_S

    def check(self, end: Fraction) -> None:
        """Raise `BadVideo` if sound that ends at this time is too long."""
        if not self.has(end):
            raise BadVideo(f"The clip's sound is longer than {self._max_s:g} seconds.")
