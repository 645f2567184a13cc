"""Maps errors of writing a file to the failures of a job."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import av

from worker.jobs.errors import DiskFull, EngineFailed
from worker.jobs.media.files import NO_ROOM

__all__ = ["map_write_errors"]


@contextmanager
def map_write_errors() -> Iterator[None]:
    """Convert an OSError or `av.FFmpegError` of the block into a job failure.

    Raises `DiskFull` if the disk, the quota or the file size limit is exhausted, else `EngineFailed`. The
    message gives the reason in one sentence. A MemoryError passes unchanged, also if libav raised it.
    """
    try:
        yield
    except MemoryError:  # libav's MemoryError is an FFmpegError too
        raise
    except (av.FFmpegError, OSError) as error:
        failure = DiskFull if error.errno in NO_ROOM else EngineFailed
        raise failure(f"The result cannot be written ({error.strerror}).") from error
