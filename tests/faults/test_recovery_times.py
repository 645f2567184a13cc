"""Tests of recovery times: only the jobs of a killed worker count."""

from datetime import UTC, datetime
from typing import Any

from tests.faults.injector import Fault, FaultKind
from tests.faults.recovery_times import recovery_times

Json = dict[str, Any]


def log(*events: tuple[float, str, int, Json]) -> list[Json]:
    stamp = [datetime.fromtimestamp(at, UTC).isoformat() for at, *_ in events]
    return [
        {"time": time, "type": kind, "attempt": attempt, **more}
        for time, (_, kind, attempt, more) in zip(stamp, events, strict=True)
    ]


HIT = log(
    (10.0, "started", 1, {"worker": "chat-host-7-ab"}),
    (11.0, "token", 1, {}),
    (14.2, "requeued", 1, {}),
    (14.3, "started", 2, {"worker": "chat-host-8-cd"}),
    (14.5, "token", 2, {}),
    (14.6, "token", 2, {}),
)


def kill(at: float, pid: int, had_standby: bool = True) -> Fault:
    return Fault(FaultKind.KILL_WORKER, at, at, pid, had_standby)


def test_recovery_times_from_kill_to_next_token() -> None:
    assert recovery_times([HIT], [kill(12.0, 7)], calm_s=4) == [2.5]


def test_recovery_times_exclude_other_kills() -> None:
    assert recovery_times([HIT], [kill(12.0, 9)], calm_s=4) == []
    assert recovery_times([HIT], [kill(9.0, 7)], calm_s=4) == []
    assert recovery_times([HIT], [kill(15.0, 7)], calm_s=4) == []
    assert recovery_times([HIT], [kill(12.0, 7, had_standby=False)], calm_s=4) == []
    assert recovery_times([HIT], [kill(12.0, 7), kill(13.0, 8)], calm_s=4) == []
