"""Copies of clips: the same pictures and sound, in the form of a result."""

from contextlib import closing
from pathlib import Path

from worker.jobs.limits import DEFAULTS, Limits
from worker.video.decoding.decoder import ClipDecoder
from worker.video.encoding.encoder import Encoder
from worker.video.encoding.joiner import Parts, join
from worker.video.tracks.report import TracksReport
from worker.video.tracks.tracks import write_tracks

__all__ = ["copy_clip"]


def copy_clip(source: Path, target: Path, limits: Limits = DEFAULTS) -> TracksReport:
    """Write the result `target` from the clip's own pictures, in this process and as one segment."""
    segment, tracks = target.with_name("segment.nut"), target.with_name("tracks.mp4")
    tracks.unlink(missing_ok=True)
    with (
        closing(ClipDecoder(source, limits)) as decoder,
        closing(Encoder(segment, decoder.header)) as encoder,
    ):
        report, count = write_tracks(source, tracks, limits, decoder.header.lead), 0
        for frame in decoder.frames:
            count += 1
            encoder.encode(decoder.upright(frame)[None].copy(), [frame.pts or 0])
        encoder.finish()
        parts = Parts([segment], count, decoder.end.tick, tracks, report.start)
        join(source, decoder.header, parts, target)
    return report
