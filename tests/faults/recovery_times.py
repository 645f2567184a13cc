"""Recovery times: from a worker's SIGKILL to the next token of each of its chats, as the logs show them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from tests.faults.injector import Fault, FaultKind

__all__ = ["recovery_times"]

Json = dict[str, Any]


def recovery_times(logs: Iterable[Sequence[Json]], faults: Sequence[Fault], calm_s: float) -> list[float]:
    """Return the seconds from SIGKILL to the next token of every chat that a killed worker had.

    A kill counts if another worker was ready, and if no other fault followed within `calm_s` seconds.
    """
    next_faults = [fault.began for fault in faults[1:]] + [float("inf")]
    kills = {
        fault.pid: fault.began
        for fault, next_began in zip(faults, next_faults, strict=True)
        if fault.kind == FaultKind.KILL_WORKER and fault.had_standby and next_began - fault.began >= calm_s
    }
    return [seconds for log in logs for seconds in _recovery_times(log, kills)]


def _recovery_times(log: Sequence[Json], kills: Mapping[int, float]) -> Iterator[float]:
    """Yield one time for each killed worker that had the job. `kills` are the times of the kills by pid."""
    for index, event in enumerate(log):
        killed_at = kills.get(_pid(event)) if event["type"] == "started" else None
        if killed_at is None or _time(event) > killed_at:
            continue
        later = log[index + 1 :]
        requeued = next((n for n, e in enumerate(later) if e["type"] == "requeued"), None)
        if requeued is None or _time(later[requeued]) < killed_at:
            continue
        yield from [_time(e) - killed_at for e in later[requeued:] if e["type"] == "token"][:1]


def _pid(started: Json) -> int:
    """Return the worker's pid. The name of a worker is kind-host-pid-random."""
    return int(started["worker"].split("-")[-2])


def _time(event: Json) -> float:
    return datetime.fromisoformat(event["time"]).timestamp()
