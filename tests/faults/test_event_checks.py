"""Tests of the checks of event logs, with handmade logs that have one flaw each."""

from typing import Any

import pytest

from tests.support.event_checks import Expected, check_chat, check_log, check_video

Json = dict[str, Any]
HELLO = Expected("Hello you", 3, "stop")


def log(*events: tuple[str, int, Json]) -> list[Json]:
    return [
        {"n": n, "type": kind, "attempt": attempt, **more}
        for n, (kind, attempt, more) in enumerate(events, 1)
    ]


def token(attempt: int, text: str, index: int) -> tuple[str, int, Json]:
    return "token", attempt, {"text": text, "index": index, "count": 1}


def batch(attempt: int, index: int, frames: int) -> tuple[str, int, Json]:
    return "batch", attempt, {"index": index, "frames": frames}


QUEUED: tuple[str, int, Json] = ("queued", 0, {})
LOST = ("requeued", 1, {"reason": "worker_lost"})
FIRST, SECOND = (("started", attempt, {"worker": f"w{attempt}"}) for attempt in (1, 2))
RESULT = {"result": {"text": "Hello you", "finish_reason": "stop"}, "usage": {"completion_tokens": 3}}
DONE = ("succeeded", 2, RESULT)
GOOD = log(QUEUED, FIRST, token(1, "Hello", 0), LOST, SECOND, token(2, " you", 1), DONE)


def flaws(events: list[Json]) -> list[str]:
    return [flaw.kind for flaw in check_log(events)]


def test_check_log_accepts_second_attempt() -> None:
    assert flaws(GOOD) == []
    assert list(check_chat(GOOD, HELLO)) == []


def test_check_log_finds_gaps_and_repeated_numbers() -> None:
    assert flaws(GOOD[:2] + GOOD[3:]) == ["gap"]
    assert flaws([*GOOD[:3], GOOD[2], *GOOD[3:]]) == ["gap"]


def test_check_log_finds_missing_and_second_terminal_event() -> None:
    assert flaws(GOOD[:-1]) == ["lost"]
    assert flaws([]) == ["lost"]
    assert flaws(log(QUEUED, FIRST, ("failed", 1, {}), ("succeeded", 1, RESULT))) == ["terminal"]
    assert flaws(log(QUEUED, FIRST, ("succeeded", 1, RESULT), token(1, "!", 2))) == ["terminal"]


@pytest.mark.parametrize(
    "events",
    [
        log(QUEUED, FIRST, LOST, SECOND, token(1, "late", 0), DONE),
        log(QUEUED, FIRST, LOST, token(1, "late", 0), SECOND, DONE),
        log(QUEUED, FIRST, LOST, LOST, SECOND, DONE),
        log(QUEUED, FIRST, SECOND, DONE),
        log(QUEUED, FIRST, LOST, SECOND, ("succeeded", 1, RESULT)),
        log(QUEUED, SECOND, DONE),
    ],
)
def test_check_log_finds_events_of_stale_attempt(events: list[Json]) -> None:
    assert flaws(events)[:1] == ["stale"]


@pytest.mark.parametrize(
    "events",
    [
        log(
            QUEUED, FIRST, token(1, "Hello", 0), LOST, SECOND, token(2, "Hello", 0), token(2, " you", 1), DONE
        ),
        log(QUEUED, FIRST, token(1, "Hello", 0), LOST, SECOND, token(2, " you", 2), DONE),
        log(QUEUED, FIRST, token(1, "Hello", 0), LOST, SECOND, DONE),
        log(QUEUED, FIRST, token(1, "Hello you", 0), ("failed", 1, {"code": "worker_lost"})),
    ],
)
def test_check_chat_finds_repeated_and_lost_tokens_and_failure(events: list[Json]) -> None:
    assert list(check_chat(events, HELLO))


@pytest.mark.parametrize(
    "other",
    [Expected("Hello", 3, "stop"), Expected("Hello you", 2, "stop"), Expected("Hello you", 3, "length")],
)
def test_check_chat_finds_other_outcome(other: Expected) -> None:
    assert [flaw.kind for flaw in check_chat(GOOD, other)] == ["result"]


def test_check_chat_accepts_part_of_text_only_after_cancel() -> None:
    cut = log(QUEUED, FIRST, token(1, "Hello", 0), ("canceled", 1, {}))
    assert not list(check_chat(cut, HELLO, canceled=True))
    assert list(check_chat(cut, HELLO))
    other = log(QUEUED, FIRST, token(1, "Hullo", 0), ("canceled", 1, {}))
    assert list(check_chat(other, HELLO, canceled=True))


def video(frames: int, *batches: tuple[str, int, Json]) -> list[Json]:
    done = ("succeeded", 2, {"result": {"frames": frames}, "usage": {"frames": frames}})
    return log(QUEUED, FIRST, *batches[:2], LOST, SECOND, *batches[2:], done)


def test_check_video_accepts_repeated_but_no_missing_batch() -> None:
    assert not list(check_video(video(9, batch(1, 0, 4), batch(1, 1, 4), batch(2, 2, 1)), 9))
    assert not list(check_video(video(8, batch(1, 0, 4), batch(1, 1, 4), batch(2, 1, 4)), 8))
    assert list(check_video(video(8, batch(1, 0, 4), batch(1, 2, 4), batch(2, 3, 4)), 8))
    assert list(check_video(video(8, batch(1, 0, 4), batch(1, 1, 4), batch(2, 3, 4)), 8))
    assert list(check_video(video(7, batch(1, 0, 4), batch(1, 1, 4), batch(2, 2, 1)), 9))
