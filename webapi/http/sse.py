"""The headers and frames of a stream of Server-Sent Events."""

from collections.abc import Iterable, Iterator

from worker.jobs.events import LoggedEvent

__all__ = ["HEADERS", "frames"]

#: `X-Accel-Buffering` keeps nginx from buffering the stream.
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def frames(events: Iterable[LoggedEvent | None]) -> Iterator[str]:
    """Yield a frame for each event, and a comment for each None so that proxies keep the stream open."""
    for event in events:
        if event is None:
            yield ": still here\n"  # no blank line: httpx-sse would make an event of it
        else:
            yield f"id: {event.n}\nevent: {event.type}\ndata: {event.text}\n\n"
