"""Durable files: writes that survive a power cut."""

import os
from pathlib import Path

__all__ = ["publish"]


def publish(partial: Path, target: Path) -> None:
    """Rename the finished file `partial` to `target`, on the same file system.

    The file's content and its new name are on disk when this returns. Raises OSError.
    """
    _sync(partial)
    partial.rename(target)
    _sync(target.parent)


def _sync(path: Path) -> None:
    """Let the kernel write a file, or the names in a folder, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
