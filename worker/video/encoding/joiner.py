"""Joins a clip's segments and the source's sound into one MP4, without encoding anything again."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import closing
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
from av.packet import Packet
from av.video.stream import VideoStream

from worker.jobs.errors import EngineFailed
from worker.jobs.media.probe import open_media
from worker.video.decoding.decoder import ClipHeader
from worker.video.encoding.audio import AudioCopy
from worker.video.encoding.encoder import REORDERED
from worker.video.encoding.segments import Segment

#: the index comes first, so that players can start before they have the whole file
_OPTIONS = {"movflags": "faststart"}
_INCOMPLETE = "The segments of the result do not hold all of its frames."


def join(source: Path, clip: ClipHeader, segments: Iterable[Segment], frames: int, target: Path) -> None:
    """Write `target`: the frames of all segments at the times they have in `source`, and its sound.

    Raises EngineFailed if there are not so many frames, OSError and av.FFmpegError.
    """
    packets = _packets(segments, clip)
    first = next(packets, None)
    if first is None:
        raise EngineFailed(_INCOMPLETE)
    with av.open(target, "w", format="mp4", options=_OPTIONS) as output:
        video = output.add_stream_from_template(first.stream)
        video.time_base = clip.time_base
        with closing(AudioCopy(source, output)) as audio:
            shift = _shift(clip, audio.start)
            late = clip.start - round(shift / clip.time_base)
            for packet in chain([first], packets):
                audio.mux_until(((packet.dts or 0) + clip.start) * clip.time_base, shift)
                packet.pts, packet.dts = (packet.pts or 0) + late, (packet.dts or 0) + late
                packet.stream = video
                output.mux(packet)
                frames -= 1
            audio.mux_until(None, shift)
    if frames:
        raise EngineFailed(_INCOMPLETE)


def _packets(segments: Iterable[Segment], clip: ClipHeader) -> Iterator[Packet[VideoStream]]:
    """All packets in the order of decoding, a segment at a time; times in ticks from the clip's start.

    They are decoded when the frames `REORDERED` places before are shown, whatever segment these are in: so
    the times rise, and no frame comes too late.
    """
    decoded = deque(-clip.step * place for place in range(REORDERED, 0, -1))
    for segment in segments:
        with open_media(segment.path, "nut") as container:
            packets = [packet for packet in container.demux(container.streams.video[0]) if packet.size]
            shown = [round((packet.pts or 0) * packet.time_base / clip.time_base) for packet in packets]
            for packet, ticks, next_shown in zip(packets, shown, sorted(shown), strict=True):
                decoded.append(next_shown)
                packet.pts, packet.dts, packet.duration = ticks, decoded.popleft(), clip.step
                packet.time_base = clip.time_base
                yield packet


def _shift(clip: ClipHeader, audio: Fraction | None) -> Fraction:
    """What is taken off all times, in seconds: a late common start, or what is before zero of the pictures.

    Sound may begin before zero: that is how its encoder's run-in gets skipped.
    """
    video = clip.start * clip.time_base
    return min(video, max(Fraction(0), min(video, video if audio is None else audio)))
