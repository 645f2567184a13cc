"""Streams: a job's events over Server-Sent Events, gapless from any cursor."""

import re
import time
from collections.abc import Generator, Iterable, Iterator, Sequence

from flask import Blueprint, Response, request
from redis.exceptions import RedisError

from webapi.auth import access
from webapi.services.backend import Backend, backend
from worker.jobs.errors import InvalidInput, JobNotFound
from worker.jobs.events import LoggedEvent

__all__ = ["follow", "routes"]

routes = Blueprint("streams", __name__)

HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


@routes.get("/v1/jobs/<job_id>/events")
def events(job_id: str) -> Response:
    """The job's events, from the client's cursor to the end."""
    stoker = backend()
    record = access.job(job_id)
    last = _cursor(record.events)
    if record.terminal and last == record.events and "Last-Event-ID" in request.headers:
        return Response(status=204)  # tells an EventSource to come back no more
    if record.terminal:
        logged: Iterable[LoggedEvent | None] = stoker.ledger.events(job_id, last)
    else:
        logged = follow(stoker, job_id, last)
    return Response(_frames(logged), mimetype="text/event-stream", headers=HEADERS)


def follow(
    stoker: Backend, job_id: str, last: int, idle_s: float | None = None
) -> Generator[LoggedEvent | None]:
    """The job's events after number `last`, up to the terminal one; None whenever nothing is new.

    That is so at least every `idle_s` seconds, by default and at most every heartbeat.

    Live events are taken as long as their numbers follow on. For everything else (the start, a gap, a
    slow client, a lost connection, and to be sure every heartbeat) there is the log.
    """
    heartbeat_s = stoker.settings.heartbeat_s
    wait_s, looked = min(idle_s or heartbeat_s, heartbeat_s), time.monotonic()
    with stoker.feed.join(stoker.ledger.channel(job_id)) as inbox:
        while True:
            try:
                event = inbox.get(wait_s)
            except TimeoutError:
                if time.monotonic() - looked < heartbeat_s:
                    yield None
                    continue
                event = None
            if event is not None and event.n <= last:
                continue
            if event is not None and event.n == last + 1:
                new: Sequence[LoggedEvent] | None = [event]
            else:
                new, looked = _logged(stoker, job_id, last), time.monotonic()
            if new is None:
                return
            for event in new:
                yield event
                last = event.n
                if event.terminal:
                    return
            if not new:
                yield None


def _logged(stoker: Backend, job_id: str, last: int) -> Sequence[LoggedEvent] | None:
    """What the log has after `last`: nothing while Redis is away, None when nothing can come any more."""
    try:
        found = stoker.ledger.events(job_id, last)
        if not found:
            record = stoker.ledger.get(job_id)
            if record.terminal and record.events == last:
                return None
    except RedisError:
        return []
    except JobNotFound:
        return None
    return found


def _frames(events: Iterable[LoggedEvent | None]) -> Iterator[str]:
    for event in events:
        if event is None:
            yield ": still here\n"  # with a blank line httpx-sse makes it an event without data
        else:
            yield f"id: {event.n}\nevent: {event.type}\ndata: {event.text}\n\n"


def _cursor(newest: int) -> int:
    """The number of the last event the client has; a reconnecting client's header is the newer."""
    cursor = 0
    for name, given in (("starting_after", request.args), ("Last-Event-ID", request.headers)):
        text = given.get(name, str(cursor))
        if not re.fullmatch("[0-9]{1,15}", text) or int(text) > newest:
            raise InvalidInput(name, f"must be the number of one of the job's events, 0 to {newest}")
        cursor = int(text)
    return cursor
