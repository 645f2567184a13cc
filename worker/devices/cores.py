"""The CPU cores that this process may use, which can be fewer than the machine has."""

from __future__ import annotations

import os
from collections.abc import Iterator
from math import ceil
from pathlib import Path, PurePosixPath

__all__ = ["usable_cores"]


def usable_cores(root: Path = Path("/")) -> int:
    """Return the number of cores that this process may use, at least 1.

    It may be pinned to some cores, and a container's limit of CPU time (`docker run --cpus`, a pod's
    `limits.cpu`) counts like as many cores, rounded up. `root` is the root folder of the file system.
    """
    pinned = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([pinned, *map(ceil, _limits(root))]))


def _limits(root: Path) -> Iterator[float]:
    """Yield the limits, in cores, of this process's control groups and of the groups that contain them."""
    groups = _read(root / "proc/self/cgroup").splitlines()
    for _, controllers, path in (group.split(":", 2) for group in groups if group.count(":") >= 2):
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / ("cpu" if controllers else "")
        # In a container the path may be the host's, while the mounted folder is the group itself.
        for part in (PurePosixPath(path), *PurePosixPath(path).parents):
            yield from _limit(top / str(part).lstrip("/"), version=1 if controllers else 2)


def _limit(group: Path, version: int) -> Iterator[float]:
    """Yield the limit of one group, which states a quota and the period for it in microseconds."""
    if version == 2:
        quota, _, period = _read(group / "cpu.max").partition(" ")
    else:
        quota, period = _read(group / "cpu.cfs_quota_us"), _read(group / "cpu.cfs_period_us")
    if quota.strip().isdecimal() and period.strip().isdecimal():  # "max" and -1 mean no limit
        yield int(quota) / int(period)


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except OSError:  # this system has no such limit
        return ""
