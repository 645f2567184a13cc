"""The floor of free space: a growing file stops there."""

import errno
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from webapi.submission.free_space import CHECK_BYTES, FreeSpace
from webapi.submission.multipart import PartFile
from webapi.submission.uploads import full_disk_refused
from worker.jobs.errors import DiskFull

FLOOR = 10 * CHECK_BYTES


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A disk whose free space, in bytes, a test can set."""
    disk = SimpleNamespace(free=FLOOR)
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_bavail=disk.free // 512, f_frsize=512))
    return disk


def test_free_space_counts_the_announced_bytes(tmp_path: Path, disk: SimpleNamespace) -> None:
    space = FreeSpace(tmp_path, FLOOR)
    space.check()
    with pytest.raises(DiskFull, match="no room"):
        space.check(512)


def test_part_file_stops_growing_when_the_disk_has_reached_the_floor(
    tmp_path: Path, disk: SimpleNamespace
) -> None:
    block = bytes(CHECK_BYTES // 4)
    with PartFile(tmp_path / "part1", FreeSpace(tmp_path, FLOOR)) as file:
        for _ in range(7):
            file.write(block)
        disk.free -= 512
        with pytest.raises(DiskFull, match="no room"):
            file.write(block)
    assert (tmp_path / "part1").stat().st_size == 2 * CHECK_BYTES


def test_full_disk_is_refused_wherever_it_shows() -> None:
    with pytest.raises(DiskFull, match="no room"), full_disk_refused():
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(PermissionError), full_disk_refused():
        raise PermissionError(errno.EACCES, "Permission denied")
