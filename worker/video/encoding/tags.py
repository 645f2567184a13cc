"""Keeps what a clip says about itself: its title, its date, its chapters, and its pictures' language."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from av.container import OutputContainer
from av.video.stream import VideoStream

from worker.jobs.media.probe.probe import CLIPS, open_media
from worker.video.decoding.clip_file import video_stream
from worker.video.tracks.stream_tags import copy_stream_tags

if TYPE_CHECKING:  # PyAV has the type in its stubs only
    from av.container.core import Chapter

__all__ = ["keep_tags"]

#: What a container says about its own format, and not about its content.
_TECHNICAL = frozenset({"compatible_brands", "encoder", "major_brand", "minor_version"})
MAX_CHAPTERS = 1000
CHAPTER_TICK = Fraction(1, 1000)


def keep_tags(
    source: Path, output: OutputContainer, video: VideoStream, start: Fraction, end: Fraction
) -> None:
    """Copy the tags of the clip `source` to `output`, and those of its pictures to `video`.

    Chapters are moved earlier by `start`. They begin before `end`. Both are times of the source in seconds.
    """
    with open_media(source, CLIPS) as container:
        tags = {key: value for key, value in container.metadata.items() if key.lower() not in _TECHNICAL}
        output.metadata.update(tags)
        copy_stream_tags(video_stream(container), video)
        output.set_chapters(list(_chapters(container.chapters()[:MAX_CHAPTERS], start, end)))


def _chapters(chapters: list[Chapter], start: Fraction, end: Fraction) -> Iterator[Chapter]:
    """Yield the chapters in the order of their times, without overlaps. Leave empty ones out."""

    def place(chapter: Chapter, time: int) -> int:
        seconds = time * (chapter["time_base"] or CHAPTER_TICK)
        return round((min(max(seconds, start), end) - start) / CHAPTER_TICK)

    spans = sorted((place(c, c["start"]), place(c, c["end"]), n) for n, c in enumerate(chapters))
    nexts = [first for first, _, _ in spans[1:]]
    for (first, last, number), next_first in zip_longest(spans, nexts):
        last = last if next_first is None else min(last, next_first)
        if first < last:
            yield {**chapters[number], "start": first, "end": last, "time_base": CHAPTER_TICK}
