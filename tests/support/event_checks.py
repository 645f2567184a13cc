"""Checks of a job's complete event log, which must be right whatever happened to workers and Redis."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from worker.jobs.events import ANSWER, TERMINAL

__all__ = ["Expected", "Flaw", "check_chat", "check_log", "check_video"]

Json = dict[str, Any]

#: Types of events that only a worker that runs the job may log.
WORK = ANSWER | {"batch", "progress", "succeeded"}


@dataclass(frozen=True, slots=True)
class Flaw:
    """One error in a job.

    The kinds are:

    - `lost`: the job has no terminal event.
    - `terminal`: the log has more than one terminal event, or events after it, or the record differs from it.
    - `gap`: the numbers of the events are not 1, 2, 3 …
    - `stale`: an event belongs to an attempt that was over or had not started.
    - `result`: the outcome is not the expected one.
    - `follower`: a client received other events than those in the log.
    - `leftover`: a file or a key has not been removed.
    - `account`: the account of the job's owner does not have its bytes.
    - `metric`: a metric is not what the logs of all jobs say.
    """

    kind: Literal["lost", "terminal", "gap", "stale", "result", "follower", "leftover", "account", "metric"]
    detail: str


@dataclass(frozen=True, slots=True)
class Expected:
    """The outcome of a chat without faults. `tokens` is the number of its completion tokens."""

    text: str
    tokens: int
    finish_reason: str


def check_log(events: Sequence[Json]) -> Iterator[Flaw]:
    """Check a log of any kind of job.

    Its numbers must have no gap, the last event must be the only terminal one, and every event must belong to
    the attempt that runs.
    """
    numbers = [event["n"] for event in events]
    if numbers != list(range(1, len(events) + 1)):
        yield Flaw("gap", f"the numbers of the events are {numbers}")
    terminal = [event["n"] for event in events if event["type"] in TERMINAL]
    if not terminal:
        last = events[-1]["type"] if events else "no event at all"
        yield Flaw("lost", f"no terminal event after {last}")
    elif len(terminal) > 1 or events[-1]["n"] != terminal[0]:
        yield Flaw("terminal", f"terminal events at {terminal} of {len(events)} events")
    yield from _check_attempts(events)


def _check_attempts(events: Sequence[Json]) -> Iterator[Flaw]:
    """Check the order of events: `queued`, then per attempt `started`, its work, and `requeued` or an end."""
    current, running = 0, False
    for event in events:
        kind, place = event["type"], f"{event['type']} {event['n']} of attempt {event['attempt']}"
        if kind == "started":
            if running:
                yield Flaw("stale", f"{place} while attempt {current} runs")
            current, running = current + 1, True
        if event["attempt"] != current:
            yield Flaw("stale", f"{place} during attempt {current}")
        elif not running and (kind in WORK or kind == "requeued"):
            yield Flaw("stale", f"{place}, which does not run any more")
        running = running and kind != "requeued"


def check_chat(events: Sequence[Json], expected: Expected, canceled: bool = False) -> Iterator[Flaw]:
    """Check that the log has every token once, and ends with the expected outcome.

    With `canceled`, the log may also end with `canceled` after a first part of the expected text.
    """
    text, tokens = "", 0
    for event in (event for event in events if event["type"] == "token"):
        if event["index"] != tokens:
            yield Flaw("result", f"token event {event['n']} has index {event['index']}, not {tokens}")
        text, tokens = text + event["text"], event["index"] + event["count"]
    end: Json = events[-1] if events else {"type": "nothing"}
    if canceled and end["type"] == "canceled":
        if not expected.text.startswith(text):
            yield Flaw("result", f"canceled after {text!r}, expected was {expected.text!r}")
    elif end["type"] != "succeeded":
        yield Flaw("result", f"the last event is {end}")
    else:
        yield from _check_success(end, text, expected)


def _check_success(end: Json, text: str, expected: Expected) -> Iterator[Flaw]:
    """Check the event `succeeded` of a chat whose tokens make up this text."""
    result, usage = end["result"], end["usage"]
    got = Expected(result["text"], usage["completion_tokens"], result["finish_reason"])
    if got != expected:
        yield Flaw("result", f"the outcome is {got}, not {expected}")
    if text != result["text"]:
        yield Flaw("result", f"the text of the tokens is {text!r}, that of the result is {result['text']!r}")


def check_video(events: Sequence[Json], frames: int, canceled: bool = False) -> Iterator[Flaw]:
    """Check that all batches were done, in order within each attempt, and have this many frames together.

    An attempt may repeat batches of earlier attempts. With `canceled`, the log may also end with `canceled`.
    """
    batches: dict[int, int] = {}
    attempt, next_index = 0, 0
    for event in (event for event in events if event["type"] == "batch"):
        if event["attempt"] != attempt:
            attempt, next_index = event["attempt"], min(event["index"], len(batches))
        if event["index"] != next_index:
            yield Flaw("result", f"batch event {event['n']} has index {event['index']}, not {next_index}")
        batches[event["index"]], next_index = event["frames"], event["index"] + 1
    end: Json = events[-1] if events else {"type": "nothing"}
    if canceled and end["type"] == "canceled":
        return
    if end["type"] != "succeeded":
        yield Flaw("result", f"the last event is {end}")
    elif (end["result"]["frames"], end["usage"]["frames"], sum(batches.values())) != (frames,) * 3:
        yield Flaw("result", f"{end['result']}, {end['usage']}, batches {batches}: not {frames} frames")
