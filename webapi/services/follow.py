"""Following a job: its events without a gap, from the log and from the live feed."""

import time
from collections.abc import Generator, Sequence

from redis.exceptions import RedisError

from webapi.services.backend import Backend
from worker.jobs.errors import JobNotFound
from worker.jobs.events import LoggedEvent

__all__ = ["follow"]


def follow(
    backend: Backend, job_id: str, last: int, idle_s: float | None = None
) -> Generator[LoggedEvent | None]:
    """The job's events after number `last`, up to the terminal one; None whenever nothing is new.

    That is so at least every `idle_s` seconds, by default and at most every heartbeat.

    Live events are taken as long as their numbers follow on. For everything else (the start, a gap, a
    slow client, a lost connection, and to be sure every heartbeat) there is the log.
    """
    heartbeat_s = backend.settings.heartbeat_s
    wait_s, looked = min(idle_s or heartbeat_s, heartbeat_s), time.monotonic()
    with backend.feed.join(backend.ledger.channel(job_id)) as inbox:
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
                new, looked = _logged(backend, job_id, last), time.monotonic()
            if new is None:
                return
            for event in new:
                yield event
                last = event.n
                if event.terminal:
                    return
            if not new:
                yield None


def _logged(backend: Backend, job_id: str, last: int) -> Sequence[LoggedEvent] | None:
    """What the log has after `last`: nothing while Redis is away, None when nothing can come any more."""
    try:
        found = backend.ledger.events(job_id, last)
        if not found:
            record = backend.ledger.get(job_id)
            if record.terminal and record.events == last:
                return None
    except RedisError:
        return []
    except JobNotFound:
        return None
    return found
