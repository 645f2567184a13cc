"""Tells what it means for the job when a file of its cannot be written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import av

from worker.jobs.errors import DiskFull, EngineFailed
from worker.jobs.media.files import NO_ROOM


@contextmanager
def writing() -> Iterator[None]:
    """Around all that writes: what the system or libav refuse comes out as DiskFull or EngineFailed.

    Both say why in one sentence. A MemoryError stays what it is, also if it is libav's.
    """
    try:
        yield
    except MemoryError:
        raise
    except (av.FFmpegError, OSError) as error:
        failure = DiskFull if error.errno in NO_ROOM else EngineFailed
        raise failure(f"The result cannot be written ({error.strerror}).") from error
