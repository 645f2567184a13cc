"""The recovery time is that of the job that the killed worker had, and no other."""

from datetime import UTC, datetime
from typing import Any

from tests.faults.chaos import Blow
from tests.faults.recovery import recoveries

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


def kill(at: float, pid: int, relieved: bool = True) -> Blow:
    return Blow("kill worker", at, at, pid, relieved)


def test_it_is_from_the_kill_to_the_first_token_of_the_next_attempt() -> None:
    assert recoveries([HIT], [kill(12.0, 7)], calm_s=4) == [2.5]


def test_kills_of_other_workers_or_at_other_times_do_not_count() -> None:
    assert recoveries([HIT], [kill(12.0, 9)], calm_s=4) == []
    assert recoveries([HIT], [kill(9.0, 7)], calm_s=4) == []
    assert recoveries([HIT], [kill(15.0, 7)], calm_s=4) == []
    assert recoveries([HIT], [kill(12.0, 7, relieved=False)], calm_s=4) == []
    assert recoveries([HIT], [kill(12.0, 7), kill(13.0, 8)], calm_s=4) == []
