"""A small file system of its own, for tests of a full disk."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

BLOCK = 4096
#: Size of the file system in bytes: enough for a clip, its segments and its result.
ROOM = 512 * 1024


@contextmanager
def small_disk(path: Path) -> Iterator[Path]:
    """Mount a file system of `ROOM` bytes at `path`. Skip the test if this process may not mount one."""
    path.mkdir(parents=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "none", path], capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield path
    finally:
        # Lazily, because PyAV leaves a file open if not even its header could be written.
        subprocess.run(["umount", "--lazy", path], check=True)


def fill_disk(path: Path, room: int) -> None:
    """Write a file `path` that leaves `room` bytes on its file system."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(BLOCK))
    os.truncate(path, path.stat().st_size // BLOCK * BLOCK - room)
