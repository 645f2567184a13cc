"""Joins the segments of a clip and the sound of its source into one MP4 file without re-encoding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, pairwise
from pathlib import Path

import av
from av.packet import Packet
from av.video.stream import VideoStream

from worker.jobs.errors import EngineFailed
from worker.jobs.media.probe.probe import open_media
from worker.video.decoding.header import ClipHeader
from worker.video.encoding.decoding_times import decoding_times
from worker.video.encoding.tags import keep_tags
from worker.video.encoding.track_copy import TrackCopy
from worker.video.tracks.tracks import OPTIONS

__all__ = ["Parts", "join"]

#: "faststart" puts the index first, so that players can start before they have the whole file.
_OPTIONS = OPTIONS | {"movflags": "faststart"}
_INCOMPLETE = "The segments of the result do not hold all of its frames."


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a result.

    `segments` are the files of the segments, in their order. They hold `frames` frames, the last of which is
    displayed until tick `end` of the clip. `tracks` is the file of `write_tracks`, which does not exist if
    there are no tracks. The first sound is heard at `sound_start` seconds of the clip; None without sound.
    """

    segments: Sequence[Path]
    frames: int
    end: int
    tracks: Path
    sound_start: Fraction | None


def join(source: Path, clip: ClipHeader, parts: Parts, target: Path) -> None:
    """Write `target`: the frames of all segments at their times in `source`, with its sound, text and tags.

    Raises `EngineFailed` if the segments do not hold all frames. Raises OSError or `av.FFmpegError` if a file
    cannot be read or written.
    """
    frames = 0
    packets = _packets(parts.segments, clip, parts.end)
    first = next(packets, None)
    if first is None:
        raise EngineFailed(_INCOMPLETE)
    with av.open(target, "w", format="mp4", options=_OPTIONS) as output, ExitStack() as stack:
        video = output.add_stream_from_template(first.stream)
        video.time_base = clip.time_base
        tracks = (
            stack.enter_context(closing(TrackCopy(parts.tracks, output, clip.lead)))
            if parts.tracks.exists()
            else None
        )
        shift = _shift(clip, parts.sound_start)
        keep_tags(source, output, video, shift, parts.end * clip.time_base)
        offset = clip.start - round(shift / clip.time_base)
        for packet in chain([first], packets):
            if tracks:
                tracks.mux_until(((packet.dts or 0) + clip.start) * clip.time_base, shift)
            packet.pts, packet.dts = (packet.pts or 0) + offset, (packet.dts or 0) + offset
            packet.stream = video
            output.mux(packet)
            frames += 1
        if tracks:
            tracks.mux_until(None, shift)
    if frames != parts.frames:
        raise EngineFailed(_INCOMPLETE)


def _packets(segments: Sequence[Path], clip: ClipHeader, end: int) -> Iterator[Packet[VideoStream]]:
    """Yield all packets in decoding order, with timestamps in ticks from the clip's start."""
    coded = [packet.pts or 0 for packet in _coded(segments, clip)]
    if not coded:
        return
    times, last_duration = decoding_times(coded, end - clip.start)
    spans = {start: later - start for start, later in pairwise([*sorted(coded), end - clip.start])}
    durations = [*(spans[pts] for pts in coded[:-1]), last_duration]
    for packet, time, duration in zip(_coded(segments, clip), times, durations, strict=True):
        packet.dts, packet.duration = time, duration
        yield packet


def _coded(segments: Sequence[Path], clip: ClipHeader) -> Iterator[Packet[VideoStream]]:
    """Yield the packets of all segments with their display times, in ticks from the clip's start."""
    for segment in segments:
        with open_media(segment, "nut") as container:
            for packet in container.demux(container.streams.video[0]):
                if packet.size:
                    packet.pts = round((packet.pts or 0) * packet.time_base / clip.time_base)
                    packet.time_base = clip.time_base
                    yield packet


def _shift(clip: ClipHeader, audio: Fraction | None) -> Fraction:
    """Return the seconds to subtract from every timestamp. `audio` is the start of the sound in seconds.

    This is the earlier of the video's and the audio's start if both start late, the start of the video if
    that is negative, and else 0. Audio may keep negative times: players skip the encoder's priming samples
    that way.
    """
    video = clip.start * clip.time_base
    return min(video, max(Fraction(0), min(video, video if audio is None else audio)))
