"""Durable files: writes that survive a power cut."""

import os
from pathlib import Path

__all__ = ["publish"]


def publish(partial: Path, target: Path) -> None:
    """Let the finished file `partial` appear as `target`, on the same file system; both survive a power cut.

    Raises OSError.
    """
    _sync(partial)
    partial.rename(target)
    _sync(target.parent)


def _sync(path: Path) -> None:
    """Have the kernel put a file, or a folder's names, on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
