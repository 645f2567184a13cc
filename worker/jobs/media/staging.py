"""Staging folders: temporary folders on this machine's disk that do not outlive their process for long."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

__all__ = ["staging_folder"]


@contextmanager
def staging_folder(folder: Path) -> Iterator[None]:
    """Create the empty folder for the time of the block, and remove it afterwards. Raises OSError.

    A file beside the folder is locked meanwhile. If this process is killed, the kernel drops the lock.
    Then the next process that creates a staging folder there removes both.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    for lock in folder.parent.glob("*.lock"):
        _remove_if_abandoned(lock)
    lock = folder.with_name(f"{folder.name}.lock")
    with FileLock(lock, fallback_to_soft=False):
        try:
            folder.mkdir()
            yield
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            lock.unlink(missing_ok=True)


def _remove_if_abandoned(lock: Path) -> None:
    """Remove the lock file and its folder, unless a process holds the lock."""
    with suppress(Timeout), FileLock(lock, blocking=False, fallback_to_soft=False):
        shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
        lock.unlink()
