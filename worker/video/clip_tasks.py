"""The tasks of a clip's sandbox: everything that parses a client's bytes in native code.

This is also the program of the fork server.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from worker.jobs.limits import Limits
from worker.video.decoding.image import decode_image
from worker.video.decoding.nvdec_decoder import NvdecDecoder
from worker.video.decoding.options import ReadOptions
from worker.video.decoding.part_decoder import OpenHardware, PartDecoder
from worker.video.encoding.joiner import Parts, join
from worker.video.encoding.write_errors import map_write_errors
from worker.video.model import Output
from worker.video.sandbox.channel import Channel
from worker.video.sandbox.fork_server import serve
from worker.video.tracks.tracks import write_tracks

__all__ = ["ClipTasks"]


class ClipTasks:
    """The tasks of one sandbox. `open` comes before `tracks`, and this before `frames` and `join`."""

    def __init__(self, channel: Channel, limits: Limits, hardware: OpenHardware | None) -> None:
        self._channel = channel
        self._limits = limits
        self._hardware = hardware

    def by_name(self) -> Mapping[str, Callable[..., None]]:
        """Return the tasks by the names that a worker uses."""
        tasks = (self.image, self.open, self.tracks, self.frames, self.stop, self.join)
        return {task.__name__: task for task in tasks}

    def image(self, path: str) -> None:
        """Answer with the `shape` of the image at `path`, followed by its pixels."""
        pixels = decode_image(Path(path), self._limits)
        self._channel.send({"shape": pixels.shape})
        self._channel.send_pixels(pixels)

    def open(self, path: str, options: Mapping[str, Any]) -> None:
        """Open the clip to read it with these `ReadOptions`, and answer with its header."""
        self._source = Path(path)
        self._clip = PartDecoder(self._source, self._limits, ReadOptions(**options), self._hardware)
        self._channel.send(asdict(self._clip.header))

    def tracks(self, target: str) -> None:
        """Write the clip's sound and subtitles into `target`, and answer with a `TracksReport`."""
        self._tracks = Path(target)
        with map_write_errors():
            report = write_tracks(self._source, self._tracks, self._limits, self._clip.header.lead)
        self._sound_start = report.start
        self._channel.send(asdict(report))

    def frames(self, first: int, until: int | None, seek: bool) -> None:
        """Answer for each frame from `first` to before `until` with its `pts`, and its pixels.

        The last answer is the `end`: the facts about the clip's end if the part reaches it, or else None.
        All answers say whether the clip is still `seekable`, and name its `decoder`. Without `seek`, it no
        longer is. The next task ends this one early. It is `stop` then.
        """
        for frame in self._clip.part(first, until, seek=seek):
            if self._channel.has_message():
                break
            self._answer(pts=frame.pts)
            self._channel.send_pixels(self._clip.pixels(frame))
        end = self._clip.end
        self._answer(end=asdict(end) if end else None)

    def _answer(self, **facts: object) -> None:
        self._channel.send({**facts, "seekable": self._clip.seekable, "decoder": self._clip.decoder})

    def stop(self) -> None:
        """Do nothing: the task `frames` has ended."""

    def join(
        self, segments: Sequence[str], frames: int, end: int, output: Mapping[str, Any], target: str
    ) -> None:
        """Join the segments and the file of the task `tracks` into `target`. The answer is empty.

        The segments have `frames` frames. `output` has the fields of the result's `Output`, and `end` is the
        clip's end in its own ticks.
        """
        form = Output(**{**output, "per": tuple(output["per"])})
        header = self._clip.header.of_result(form)
        parts = Parts(
            [Path(segment) for segment in segments],
            frames,
            end * form.per[0],
            self._tracks,
            self._sound_start,
        )
        with map_write_errors():
            join(self._source, header, parts, Path(target))
        self._channel.send({})


def main() -> None:
    """Serve sandboxes that decode on a GPU if the worker says so."""
    on_gpu = "gpu" in sys.argv

    def make_tasks(channel: Channel, limits: Limits) -> Mapping[str, Callable[..., None]]:
        return ClipTasks(channel, limits, NvdecDecoder if on_gpu else None).by_name()

    serve(int(sys.argv[1]), make_tasks, on_gpu=on_gpu)


if __name__ == "__main__":
    main()
