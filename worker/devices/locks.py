"""Locks on GPUs: locked files, which the kernel unlocks when their process ends, even if it is killed."""

import fcntl
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO

from worker.devices.gpus import Gpu
from worker.jobs.errors import NoDevice

__all__ = ["take_lock"]

#: Pause between two attempts to lock. It is short, because other workers may hold the lock only for a moment.
RETRY_S = 0.02


def take_lock(
    gpu: Gpu,
    folder: Path,
    wait_s: float = 0.0,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> IO[str]:
    """Lock the GPU's file in `folder`, and return it. The GPU stays locked for as long as the file is open.

    Raises `NoDevice` if another process still holds the lock after `wait_s` seconds, and names that process.
    Raises it also if the file cannot be opened.
    """
    try:
        file = _open_for_all(folder / f"{gpu.uuid}.lock")
    except OSError as error:
        raise NoDevice(f"GPU {gpu.index} cannot be locked: {error}") from error
    deadline = clock() + wait_s
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if clock() >= deadline:
                holder = file.read().strip() or "another process"
                file.close()
                raise NoDevice(f"GPU {gpu.index} is held by {holder}") from None
        sleep(RETRY_S)
    file.truncate(0)
    file.write(f"pid {os.getpid()} on {os.uname().nodename}")
    file.flush()
    return file


def _open_for_all(path: Path) -> IO[str]:
    """Open the file, and create it if necessary, with permissions for the workers of all users.

    Containers that share the folder may run as different users.
    """
    with suppress(FileExistsError):
        path.parent.mkdir(parents=True)
        path.parent.chmod(0o1777)
    with suppress(FileExistsError):
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL, 0o666)
        os.fchmod(descriptor, 0o666)
        os.close(descriptor)
    return path.open("r+", encoding="utf-8")
