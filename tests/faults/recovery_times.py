"""Recovery times: from the loss of a worker or of the primary to the next token of the chats that it had."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from tests.faults.injector import Fault, FaultKind

__all__ = ["failover_times", "recovery_times"]

#: Tokens that were on their way when the primary was lost arrive within this many seconds.
ON_THEIR_WAY_S = 0.5

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


def failover_times(
    seen: Mapping[str, Sequence[Json]], arrivals: Mapping[str, Sequence[float]], faults: Sequence[Fault]
) -> list[float]:
    """Return the seconds from the loss of each primary to the next token of every followed chat.

    A chat counts if the client had got a token of it before, and got another one afterwards.
    """
    lost = [f.began for f in faults if f.kind in (FaultKind.KILL_PRIMARY, FaultKind.STOP_PRIMARY)]
    tokens = [
        [at for event, at in zip(seen[job_id], times, strict=False) if event["type"] == "token"]
        for job_id, times in arrivals.items()
    ]
    return [
        next(at for at in times if at > began + ON_THEIR_WAY_S) - began
        for began in lost
        for times in tokens
        if times and times[0] < began and times[-1] > began + ON_THEIR_WAY_S
    ]


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
