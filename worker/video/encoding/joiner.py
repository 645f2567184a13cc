"""Joins the segments of a clip and the sound of its source into one MP4 file without re-encoding."""

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
from worker.jobs.media.probe.probe import open_media
from worker.video.decoding.header import ClipHeader
from worker.video.encoding.audio import AudioCopy
from worker.video.encoding.encoder import REORDERED

__all__ = ["join"]

#: "faststart" puts the index first, so that players can start before they have the whole file.
_OPTIONS = {"movflags": "faststart"}
_INCOMPLETE = "The segments of the result do not hold all of its frames."


def join(source: Path, clip: ClipHeader, segments: Iterable[Path], frames: int, target: Path) -> None:
    """Write `target`: the frames of all segments at their times in `source`, with the sound of `source`.

    `segments` are the files of the segments, in their order.

    Raises `EngineFailed` if the segments do not hold exactly `frames` frames. Raises OSError or
    `av.FFmpegError` if a file cannot be read or written.
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
            offset = clip.start - round(shift / clip.time_base)
            for packet in chain([first], packets):
                audio.mux_until(((packet.dts or 0) + clip.start) * clip.time_base, shift)
                packet.pts, packet.dts = (packet.pts or 0) + offset, (packet.dts or 0) + offset
                packet.stream = video
                output.mux(packet)
                frames -= 1
            audio.mux_until(None, shift)
    if frames:
        raise EngineFailed(_INCOMPLETE)


def _packets(segments: Iterable[Path], clip: ClipHeader) -> Iterator[Packet[VideoStream]]:
    """Yield all packets in decoding order, with timestamps in ticks from the clip's start.

    H.264 requires that decoding times (dts) rise and that no packet is displayed (pts) before it is decoded.
    Therefore: dts of a packet = pts of the frame displayed `REORDERED` positions earlier, counted across
    segments. So dts rises strictly and never exceeds pts. The first `REORDERED` packets get negative times,
    one frame apart.
    """
    decoding_times = deque(-clip.step * place for place in range(REORDERED, 0, -1))
    for segment in segments:
        with open_media(segment, "nut") as container:
            packets = [packet for packet in container.demux(container.streams.video[0]) if packet.size]
            shown = [round((packet.pts or 0) * packet.time_base / clip.time_base) for packet in packets]
            for packet, ticks, next_shown in zip(packets, shown, sorted(shown), strict=True):
                decoding_times.append(next_shown)
                packet.pts, packet.dts, packet.duration = ticks, decoding_times.popleft(), clip.step
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
