"""Staging folders: temporary folders on this machine's disk that do not outlive their process for long."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

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
    with _locked(lock):
        try:
            folder.mkdir()
            yield
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            lock.unlink(missing_ok=True)


def _locked(lock: Path) -> IO[bytes]:
    """Create the file and lock it.

    Another process may remove the file before it is locked, because it looks abandoned. Then create it again.
    """
    while True:
        file = lock.open("wb")
        fcntl.flock(file, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), lock.stat()):
                return file
        file.close()


def _remove_if_abandoned(lock: Path) -> None:
    """Remove the lock file and its folder, unless a process holds the lock."""
    with suppress(FileNotFoundError, BlockingIOError), lock.open("rb+") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
        lock.unlink()
