"""The file of a job's result, which is joined from the finished segments."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from worker.jobs.errors import EngineFailed
from worker.video.decoding.header import ClipEnd
from worker.video.encoding.segments import Segment, SegmentFolder
from worker.video.encoding.write_errors import map_write_errors
from worker.video.model import Output
from worker.video.sandbox.sandbox import Sandbox
from worker.video.stages import Stages

__all__ = ["join_segments"]

_INCOMPLETE = "Segments of the result are missing."


def join_segments(
    sandbox: Sandbox,
    folder: SegmentFolder,
    output: Output,
    frames: int,
    end: ClipEnd,
    publish: Callable[[Path, Path], None],
    target: Path,
    stages: Stages,
) -> int:
    """Join the segments of all `frames` of the clip, and `publish` the result as `target`.

    A sandbox joins video, because it also reads the clip. `stages` gets the seconds of the join. Return the
    size of the result in bytes. Raises `EngineFailed` if segments are missing, and what `Sandbox.call` and
    `publish` raise.
    """
    with folder.scratch() as path:
        segments = folder.durable(frames)
        if not segments or segments[-1].end != frames:
            raise EngineFailed(_INCOMPLETE)
        with stages.busy("store"):
            if output.kind == "records":
                _concatenate(segments, path)
            else:
                sandbox.call(
                    "join",
                    segments=[str(segment.path) for segment in segments],
                    frames=output.count(frames),
                    end=end.tick,
                    output=asdict(output),
                    target=path,
                )
        with map_write_errors():
            size = path.stat().st_size
            sandbox.check()
            publish(path, target)
    return size


def _concatenate(segments: tuple[Segment, ...], target: Path) -> None:
    with map_write_errors(), target.open("wb") as result:
        for segment in segments:
            with segment.path.open("rb") as lines:
                shutil.copyfileobj(lines, result)
