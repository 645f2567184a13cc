"""Recovery times: from a worker's SIGKILL to the next token of each chat that it was at, out of the logs."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from tests.faults.chaos import Blow

__all__ = ["recoveries"]

Json = dict[str, Any]


def recoveries(logs: Iterable[Sequence[Json]], blows: Sequence[Blow], calm_s: float) -> list[float]:
    """Seconds from SIGKILL to next token, if another worker was ready and no fault came within `calm_s`."""
    following = [blow.at for blow in blows[1:]] + [float("inf")]
    kills = {
        blow.pid: blow.at
        for blow, after in zip(blows, following, strict=True)
        if blow.name == "kill worker" and blow.relieved and after - blow.at >= calm_s
    }
    return [seconds for log in logs for seconds in _recoveries(log, kills)]


def _recoveries(log: Sequence[Json], kills: Mapping[int, float]) -> Iterator[float]:
    """For each of the killed workers that had the job; `kills` are times by pid."""
    for place, event in enumerate(log):
        at = kills.get(_pid(event)) if event["type"] == "started" else None
        if at is None or _time(event) > at:
            continue
        later = log[place + 1 :]
        handed_on = next((n for n, e in enumerate(later) if e["type"] == "requeued"), None)
        if handed_on is None or _time(later[handed_on]) < at:
            continue
        yield from [_time(e) - at for e in later[handed_on:] if e["type"] == "token"][:1]


def _pid(started: Json) -> int:
    """Of the worker, which is called kind-host-pid-random."""
    return int(started["worker"].split("-")[-2])


def _time(event: Json) -> float:
    return datetime.fromisoformat(event["time"]).timestamp()
