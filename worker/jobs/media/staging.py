"""Staging: folders on this machine's disk for as long as a process works in them, and not longer."""

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
    """The folder, new and empty; removed in the end, or by the next who stages if this process is killed.

    A file beside it is locked meanwhile: the kernel drops the lock however we end. Raises OSError.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    for lock in folder.parent.glob("*.lock"):
        _remove_if_left(lock)
    lock = folder.with_name(f"{folder.name}.lock")
    with _locked(lock):
        try:
            folder.mkdir()
            yield
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            lock.unlink(missing_ok=True)


def _locked(lock: Path) -> IO[bytes]:
    """The file, made and locked; again if another process has taken it for one that was left."""
    while True:
        file = lock.open("wb")
        fcntl.flock(file, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), lock.stat()):
                return file
        file.close()


def _remove_if_left(lock: Path) -> None:
    with suppress(FileNotFoundError, BlockingIOError), lock.open("rb+") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
        lock.unlink()
