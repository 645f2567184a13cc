"""The floor of free space on the disk that receives uploads."""

import os
from dataclasses import dataclass
from pathlib import Path

from worker.jobs.errors import DiskFull

__all__ = ["FreeSpace"]

#: Bytes that may be written between two looks at the disk.
CHECK_BYTES = 4 * 2**20


@dataclass(slots=True)
class FreeSpace:
    """The free space on the disk of `folder`. Uploads leave `floor_bytes` of it to the rest of this host."""

    folder: Path
    floor_bytes: int
    written: int = 0

    def check(self, needed_bytes: int = 0) -> None:
        """Raise `DiskFull` if less than the floor would be free after a write of `needed_bytes`."""
        disk = os.statvfs(self.folder)
        if disk.f_bavail * disk.f_frsize - needed_bytes < self.floor_bytes:
            raise DiskFull("There is no room for the upload.")

    def count(self, written_bytes: int) -> None:
        """Count a write, and check the disk from time to time. Raises `DiskFull`."""
        self.written += written_bytes
        if self.written >= CHECK_BYTES:
            self.written = 0
            self.check()
