"""The number of cores that a process may use: those to which it is pinned, and its container's limit."""

import os
from pathlib import Path

import pytest

from worker.devices.cores import usable_cores


@pytest.fixture(autouse=True)
def pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pin the process to 8 cores."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


def test_usable_cores_are_the_pinned_ones_without_a_limit(tmp_path: Path) -> None:
    assert usable_cores(tmp_path) == 8


@pytest.mark.parametrize(
    ("limit", "cores"),
    [
        ("200000 100000", 2),
        ("150000 100000", 2),
        ("10000 100000", 1),
        ("max 100000", 8),
        ("6400000 100000", 8),
    ],
)
def test_usable_cores_count_limit_of_container(tmp_path: Path, limit: str, cores: int) -> None:
    files = {"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": limit}
    assert usable_cores(write(tmp_path, files)) == cores


def test_usable_cores_count_limits_of_outer_groups(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/kubepods/pod/container",
        "sys/fs/cgroup/kubepods/pod/container/cpu.max": "max 100000",
        "sys/fs/cgroup/kubepods/pod/cpu.max": "300000 100000",
        "sys/fs/cgroup/kubepods/cpu.max": "700000 100000",
    }
    assert usable_cores(write(tmp_path, files)) == 3


@pytest.mark.parametrize(("quota", "cores"), [("250000", 3), ("-1", 8)])
@pytest.mark.parametrize("folder", ["docker/1234", ""])
def test_usable_cores_count_limit_of_older_control_groups(
    tmp_path: Path, quota: str, cores: int, folder: str
) -> None:
    """A container sees its own group as the root of the mounted folder, but its path on the host."""
    group = Path("sys/fs/cgroup/cpu", folder)
    files = {
        "proc/self/cgroup": "4:memory:/docker/1234\n3:cpu,cpuacct:/docker/1234\n1:name=systemd:/docker/1234",
        str(group / "cpu.cfs_quota_us"): quota,
        str(group / "cpu.cfs_period_us"): "100000",
    }
    assert usable_cores(write(tmp_path, files)) == cores
