"""The CPU time of groups of processes, sampled while they work."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

import psutil

__all__ = ["CpuUse", "Sample", "Share", "shares"]

#: Seconds between two samples.
INTERVAL_S = 0.5

#: Returns the processes of a group.
FindProcesses = Callable[[], Sequence[psutil.Process]]


class Sample(NamedTuple):
    """The CPU seconds of each process so far, by group and process id, at the time `at`."""

    at: float
    cpu_s: Mapping[tuple[str, int], float]


class Share(NamedTuple):
    """The cores that a group uses: its busiest process, and all of its processes."""

    busiest: float
    total: float


class CpuUse:
    """A thread that samples the CPU time of groups of processes. It is a context manager."""

    def __init__(self, groups: Mapping[str, FindProcesses]) -> None:
        self.samples: list[Sample] = []
        self._groups = groups
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "CpuUse":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(INTERVAL_S):
            found = {}
            for name, processes in self._groups.items():
                for process in processes():
                    with suppress(psutil.Error):  # it has ended
                        found[name, process.pid] = sum(process.cpu_times()[:2])
            self.samples.append(Sample(time.perf_counter(), found))


def shares(samples: Sequence[Sample], since: float, until: float) -> dict[str, Share]:
    """Return the share of each group between two times. Processes that began or ended then do not count."""
    within = [sample for sample in samples if since <= sample.at <= until]
    if len(within) < 2:
        return {}
    first, last = within[0], within[-1]
    groups: dict[str, list[float]] = {}
    for process in first.cpu_s.keys() & last.cpu_s.keys():
        cores = (last.cpu_s[process] - first.cpu_s[process]) / (last.at - first.at)
        groups.setdefault(process[0], []).append(cores)
    return {name: Share(max(cores), sum(cores)) for name, cores in sorted(groups.items())}
