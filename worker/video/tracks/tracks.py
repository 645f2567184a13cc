"""Writes a clip's sound and subtitles into an MP4 file of their own, which the joiner copies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer

from worker.jobs.limits import Limits
from worker.jobs.media.files import NO_ROOM
from worker.jobs.media.probe.codecs import is_accepted
from worker.jobs.media.probe.probe import CLIPS, open_media
from worker.video.decoding.clip_file import video_stream
from worker.video.decoding.continuity import continuous_packets, delay
from worker.video.tracks.channels import simplify_layout
from worker.video.tracks.plan import Track, decoder_name, plan_sound, plan_subtitles
from worker.video.tracks.report import TracksReport
from worker.video.tracks.sound_check import SoundCheck
from worker.video.tracks.stream_tags import copy_stream_tags

__all__ = ["OPTIONS", "write_tracks"]

#: The ticks a second in which an MP4 file states when its tracks begin. libav's default is 1000.
OPTIONS = {"movie_timescale": "90000"}


def write_tracks(source: Path, target: Path, limits: Limits, lead: Fraction = Fraction(0)) -> TracksReport:
    """Write the sound and the subtitles of the clip `source` into the MP4 file `target`.

    Their times are those of the clip plus `lead` seconds, because MP4 cannot hold sound before time 0.
    A stream that MP4 can hold is copied. Other sound is encoded as AAC, and other text as `mov_text`. Damaged
    sound is encoded too. If the clip has neither sound nor text, no file is written.

    Raises `BadVideo` if the sound is too long, and OSError or `av.FFmpegError` if a file cannot be read or
    written.
    """
    checks = _check_sound(source, limits)
    try:
        return _write(source, target, checks, limits, lead)
    except MemoryError:
        raise
    except (av.FFmpegError, OSError, ValueError) as error:
        if getattr(error, "errno", None) in NO_ROOM:
            raise
        for check in checks.values():  # MP4 cannot hold a stream as it is, although its sound is in order
            check.reason = check.reason or "MP4 cannot hold it as it is."
        return _write(source, target, checks, limits, lead)


def _check_sound(source: Path, limits: Limits) -> dict[int, SoundCheck]:
    """Return the checks of the streams of sound that can be decoded, by their indices."""
    with open_media(source, CLIPS) as container:
        checks = {stream.index: SoundCheck(stream, limits) for stream in _sound(container)}
        if checks:
            for packet in continuous_packets(container, video_stream(container)):
                if packet.stream.index in checks and packet.size:
                    checks[packet.stream.index].add(packet)
        return checks


def _sound(container: InputContainer) -> list[AudioStream]:
    """Return the streams of sound that can be decoded."""
    streams = [stream for stream in container.streams.audio if is_accepted(decoder_name(stream), "audio")]
    for stream in streams:
        simplify_layout(stream.codec_context)
    return streams


def _write(
    source: Path, target: Path, checks: Mapping[int, SoundCheck], limits: Limits, lead: Fraction
) -> TracksReport:
    with (
        open_media(source, CLIPS) as container,
        av.open(target, "w", format="mp4", options=OPTIONS) as output,
    ):
        _sound(container)
        audio = [plan_sound(s, checks.get(s.index), limits) for s in container.streams.audio]
        subtitles = [plan_subtitles(s, limits) for s in container.streams.subtitles]
        tracks: dict[int, Track] = {}
        for plan in sorted(audio + subtitles, key=lambda plan: plan.report.stream):
            if plan.add_to:
                tracks[plan.report.stream] = track = plan.add_to(output)
                copy_stream_tags(plan.stream, track.stream)
        if tracks:
            _convert(container, output, tracks, lead)
    reports, starts = [], []
    for report in (plan.report for plan in audio):
        if sound := tracks.get(report.stream):
            report = replace(report, silence_s=round(sound.silence_s, 3))
            starts += [] if sound.start is None else [sound.start - lead]
        reports.append(report)
    return TracksReport(tuple(reports), tuple(plan.report for plan in subtitles), min(starts, default=None))


def _convert(
    container: InputContainer, output: OutputContainer, tracks: Mapping[int, Track], lead: Fraction
) -> None:
    """Write all packets of the tracks, `lead` seconds later."""
    for packet in continuous_packets(container, video_stream(container)):
        track = tracks.get(packet.stream.index)
        if track and packet.size:
            delay(packet, lead)
            output.mux(list(track.convert(packet)))
    for track in tracks.values():
        output.mux(list(track.finish()))
