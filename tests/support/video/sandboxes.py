"""Sandboxes that all tests of a process share, because a fork server takes a third of a second to start."""

import atexit
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from worker.jobs.limits import DEFAULTS, Limits
from worker.video.clip_tasks import ClipTasks
from worker.video.decoding.reader import ClipReader, FrameBatch, Window
from worker.video.sandbox.sandboxes import Sandboxes

__all__ = ["BatchReader", "open_clip", "shared_sandboxes"]


class SharedSandboxes(Sandboxes):
    """Sandboxes that many pipelines start and stop. They stay until the process ends."""

    @property
    def server_pid(self) -> int:
        return self._server.pid

    def start(self) -> None:
        pass

    def stop(self) -> None:
        pass


def shared_sandboxes(program: str = ClipTasks.__module__, _gpu: None = None) -> SharedSandboxes:
    """Return the sandboxes of this process with that program. They use no GPU."""
    return _start(program)


@cache
def _start(program: str) -> SharedSandboxes:
    sandboxes = SharedSandboxes(program)
    Sandboxes.start(sandboxes)
    atexit.register(Sandboxes.stop, sandboxes)
    return sandboxes


class BatchReader(ClipReader):
    """A reader that is itself iterable over batches of `size` frames, which have no neighbours."""

    size = 0

    def __iter__(self) -> Iterator[FrameBatch]:
        return self.batches(Window(self.size))


@contextmanager
def open_clip(
    path: Path, batch_size: int, limits: Limits = DEFAULTS, **options: Any
) -> Iterator[BatchReader]:
    """Yield a reader of the clip, with a sandbox of its own."""
    with shared_sandboxes().sandbox(limits, lambda: None) as sandbox:
        reader = BatchReader(sandbox, path, **options)
        reader.size = batch_size
        yield reader
