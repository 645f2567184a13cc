"""The file of a job's result, which a sandbox joins from the finished segments."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from worker.video.encoding.segments import SegmentFolder
from worker.video.encoding.write_errors import map_write_errors
from worker.video.sandbox.sandbox import Sandbox

__all__ = ["join_segments"]


def join_segments(
    sandbox: Sandbox,
    folder: SegmentFolder,
    frames: int,
    end: int,
    publish: Callable[[Path, Path], None],
    target: Path,
) -> int:
    """Join the segments of all `frames`, until tick `end`, and `publish` the result as `target`.

    Return its size in bytes. Raises what `Sandbox.call` and `publish` raise.
    """
    with folder.scratch() as path:
        segments = [str(segment.path) for segment in folder.durable(frames)]
        sandbox.call("join", segments=segments, frames=frames, end=end, target=path)
        with map_write_errors():
            size = path.stat().st_size
            sandbox.check()
            publish(path, target)
    return size
