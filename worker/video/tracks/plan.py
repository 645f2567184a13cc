"""The plan of what happens to a stream of sound or subtitles."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Protocol

from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream
from av.subtitles.stream import SubtitleStream

from worker.jobs.limits import Limits
from worker.jobs.media.probe.codecs import is_accepted
from worker.video.tracks.copied import CopiedTrack
from worker.video.tracks.encoded_sound import EncodedSound
from worker.video.tracks.report import TrackReport
from worker.video.tracks.sound_check import SoundCheck
from worker.video.tracks.subtitles import EncodedSubtitles

__all__ = ["Track", "TrackPlan", "decoder_name", "plan_sound", "plan_subtitles"]


class Track(Protocol):
    """A track that is being written. It turns packets of the clip into packets of its `stream`."""

    stream: Stream

    @property
    def start(self) -> Fraction | None:
        """The time in seconds at which the track begins, or None if it is still empty."""

    @property
    def silence_s(self) -> float:
        """The silence that was inserted, in seconds."""

    def convert(self, packet: Packet[Stream]) -> Iterable[Packet[Stream]]:
        """Yield the packets that a packet of the clip completes."""

    def finish(self) -> Iterable[Packet[Stream]]:
        """Yield the packets that were held back."""


@dataclass(frozen=True, slots=True)
class TrackPlan:
    """The plan for `stream`: the report, and the function that adds the track, if there is to be one."""

    stream: Stream
    report: TrackReport
    add_to: Callable[[OutputContainer], Track] | None = None


def plan_sound(stream: AudioStream, check: SoundCheck | None, limits: Limits) -> TrackPlan:
    """Plan a track of sound. `check` is None if the sound cannot be decoded."""
    index, codec = stream.index, _codec(stream)
    if check is None:
        return TrackPlan(stream, TrackReport(index, codec, "left_out", "Its codec is not read here."))
    if check.first is None:
        return TrackPlan(stream, TrackReport(index, codec, "left_out", "It has no sound."))
    if check.reason is None:
        return TrackPlan(stream, TrackReport(index, codec, "copied"), partial(CopiedTrack, source=stream))
    encode = partial(EncodedSound, source=stream, first=check.first, limits=limits)
    return TrackPlan(stream, TrackReport(index, codec, "encoded", check.reason), encode)


def plan_subtitles(stream: SubtitleStream, limits: Limits) -> TrackPlan:
    """Plan a track of subtitles."""
    index, codec = stream.index, _codec(stream)
    if not is_accepted(decoder_name(stream), "subtitle"):
        return TrackPlan(stream, TrackReport(index, codec, "left_out", "MP4 can hold text only."))
    if codec == "mov_text":
        return TrackPlan(stream, TrackReport(index, codec, "copied"), partial(CopiedTrack, source=stream))
    encode = partial(EncodedSubtitles, source=stream, limits=limits)
    return TrackPlan(stream, TrackReport(index, codec, "encoded", "MP4 cannot hold this codec."), encode)


def decoder_name(stream: Stream) -> str | None:
    """Return the name of the stream's decoder. PyAV leaves the context out if libav has none."""
    return getattr(stream.codec_context, "name", None)


def _codec(stream: Stream) -> str:
    return stream.codec.canonical_name if decoder_name(stream) else "unknown"
