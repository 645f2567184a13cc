"""The checker: what the whole log of a job must be like, whatever happened to workers and Redis."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from worker.jobs.events import TERMINAL

__all__ = ["Expected", "Flaw", "check_chat", "check_log", "check_video"]

Json = dict[str, Any]

#: What only a worker that runs the job may log.
WORK = frozenset({"token", "batch", "progress", "succeeded"})


@dataclass(frozen=True, slots=True)
class Flaw:
    """Something that is not as it must be."""

    kind: Literal["lost", "endings", "gap", "stale", "result", "follower", "leftover"]
    detail: str


@dataclass(frozen=True, slots=True)
class Expected:
    """A chat's outcome when nothing disturbs it."""

    text: str
    tokens: int
    finish_reason: str


def check_log(events: Sequence[Json]) -> Iterator[Flaw]:
    """Numbers without a gap, one ending and nothing after it, no word from an attempt that is over."""
    numbers = [event["n"] for event in events]
    if numbers != list(range(1, len(events) + 1)):
        yield Flaw("gap", f"the events' numbers are {numbers}")
    endings = [event["n"] for event in events if event["type"] in TERMINAL]
    if not endings:
        yield Flaw("lost", f"no ending after {events[-1]['type'] if events else 'no event at all'}")
    elif len(endings) > 1 or events[-1]["n"] != endings[0]:
        yield Flaw("endings", f"endings at {endings} of {len(events)} events")
    yield from _check_attempts(events)


def _check_attempts(events: Sequence[Json]) -> Iterator[Flaw]:
    """queued, then for each attempt: started, its work, requeued or the end."""
    current, running = 0, False
    for event in events:
        kind, where = event["type"], f"{event['type']} {event['n']} of attempt {event['attempt']}"
        if kind == "started":
            if running:
                yield Flaw("stale", f"{where} while attempt {current} runs")
            current, running = current + 1, True
        if event["attempt"] != current:
            yield Flaw("stale", f"{where} in attempt {current}")
        elif not running and (kind in WORK or kind == "requeued"):
            yield Flaw("stale", f"{where}, which does not run any more")
        running = running and kind != "requeued"


def check_chat(events: Sequence[Json], expected: Expected, canceled: bool = False) -> Iterator[Flaw]:
    """Every token once; the undisturbed text, usage and finish reason, or less if it may be canceled."""
    text, tokens = "", 0
    for event in (event for event in events if event["type"] == "token"):
        if event["index"] != tokens:
            yield Flaw("result", f"token event {event['n']} has index {event['index']}, not {tokens}")
        text, tokens = text + event["text"], event["index"] + event["count"]
    end: Json = events[-1] if events else {"type": "nothing"}
    if canceled and end["type"] == "canceled":
        if not expected.text.startswith(text):
            yield Flaw("result", f"canceled after {text!r} of {expected.text!r}")
    elif end["type"] != "succeeded":
        yield Flaw("result", f"it ended as {end}")
    else:
        yield from _check_end(end, text, expected)


def _check_end(end: Json, text: str, expected: Expected) -> Iterator[Flaw]:
    result, usage = end["result"], end["usage"]
    got = Expected(result["text"], usage["completion_tokens"], result["finish_reason"])
    if got != expected:
        yield Flaw("result", f"got {got}, not {expected}")
    if text != result["text"]:
        yield Flaw("result", f"the tokens say {text!r}, the result {result['text']!r}")


def check_video(events: Sequence[Json], frames: int, canceled: bool = False) -> Iterator[Flaw]:
    """Every batch done, in order in each attempt, and the right count of frames; or it was canceled."""
    batches: dict[int, int] = {}
    attempt, following = 0, 0
    for event in (event for event in events if event["type"] == "batch"):
        if event["attempt"] != attempt:
            attempt, following = event["attempt"], min(event["index"], len(batches))
        if event["index"] != following:
            yield Flaw("result", f"batch event {event['n']} has index {event['index']}, not {following}")
        batches[event["index"]], following = event["frames"], event["index"] + 1
    end: Json = events[-1] if events else {"type": "nothing"}
    if canceled and end["type"] == "canceled":
        return
    if end["type"] != "succeeded":
        yield Flaw("result", f"it ended as {end}")
    elif (end["result"]["frames"], end["usage"]["frames"], sum(batches.values())) != (frames,) * 3:
        yield Flaw("result", f"{end['result']}, {end['usage']}, batches {batches}: not {frames} frames")
