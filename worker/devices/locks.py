"""Locks on GPUs: files that the kernel unlocks when the process that holds them ends, however."""

import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

from worker.devices.gpus import Gpu
from worker.jobs.errors import NoDevice

__all__ = ["take_lock"]

#: Between two tries, while another worker may hold the lock only to look at the GPU.
TRY_AGAIN_S = 0.02


def take_lock(gpu: Gpu, folder: Path, wait_s: float = 0.0) -> IO[str]:
    """The GPU's lock, held for as long as the file is open. Raises `NoDevice` saying who holds it."""
    try:
        file = _open_for_all(folder / f"{gpu.uuid}.lock")
    except OSError as error:
        raise NoDevice(f"GPU {gpu.index} cannot be locked: {error}") from error
    end = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() >= end:
                holder = file.read().strip() or "another process"
                file.close()
                raise NoDevice(f"GPU {gpu.index} is held by {holder}") from None
        time.sleep(TRY_AGAIN_S)
    file.truncate(0)
    file.write(f"pid {os.getpid()} on {os.uname().nodename}")
    file.flush()
    return file


def _open_for_all(path: Path) -> IO[str]:
    """Open the file, made if need be, for workers of every user: containers that share the folder differ."""
    with suppress(FileExistsError):
        path.parent.mkdir(parents=True)
        path.parent.chmod(0o1777)
    with suppress(FileExistsError):
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL, 0o666)
        os.fchmod(descriptor, 0o666)
        os.close(descriptor)
    return path.open("r+")
