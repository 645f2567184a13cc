"""Comments in a stream whose job has nothing to say, so that proxies do not close the connection."""

import time
from collections.abc import Generator, Iterable, Iterator

from worker.jobs.events import ANSWER, LoggedEvent

__all__ = ["end_comments", "with_comments"]


def with_comments(
    events: Iterable[LoggedEvent | None], silence_s: float
) -> Generator[LoggedEvent | str, None, None]:
    """Yield a job's events, and the text of a comment after each `silence_s` seconds without an answer.

    None in `events` means that there is nothing new. The comment says whether the job waits, and at which
    place of its queue.
    """
    state, sent_at = "queued", time.monotonic()
    for event in events:
        if event is not None:
            state = _state(event) or state
            yield event
            if event.type in ANSWER:
                sent_at = time.monotonic()
        if time.monotonic() - sent_at >= silence_s:
            yield f": {state}\n\n"
            sent_at = time.monotonic()


def end_comments(texts: Iterable[str]) -> Iterator[str]:
    """Yield the texts of a stream, with an empty comment before each text that follows a comment.

    vLLM's benchmark removes blank lines at both ends of what it receives at once. Without a blank line inside
    of the next text, it would take that text for a part of the comment.
    """
    comment = False
    for text in texts:
        ends, comment = comment, text.startswith(":")
        yield f":\n\n{text}" if ends and not comment else text


def _state(event: LoggedEvent) -> str | None:
    """Return the state of a job after this event, or None if the event does not change it."""
    if event.type == "queued":
        return f"queued, place {event.data['position']}"
    return {"started": "running", "requeued": "queued"}.get(event.type)
