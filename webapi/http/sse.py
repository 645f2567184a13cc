"""Server-Sent Events: the headers and frames of an event stream."""

from collections.abc import Iterable, Iterator

from worker.jobs.events import LoggedEvent

__all__ = ["HEADERS", "frames"]


HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def frames(events: Iterable[LoggedEvent | None]) -> Iterator[str]:
    """Yield a frame for each event, and a comment for each None, so that proxies keep the stream open."""
    for event in events:
        if event is None:
            yield ": still here\n"  # with a blank line httpx-sse makes it an event without data
        else:
            yield f"id: {event.n}\nevent: {event.type}\ndata: {event.text}\n\n"
