"""Follow a job's events without a gap, from its log and from the live feed."""

import time
from collections.abc import Generator, Sequence
from contextlib import suppress

from redis.exceptions import RedisError

from webapi.services.backend import Backend
from webapi.services.feed import Inbox
from worker.jobs.errors import JobNotFound, NotReplicated
from worker.jobs.events import LoggedEvent
from worker.jobs.ledger.ledger import Ledger

__all__ = ["follow"]

#: Pause before the log is read again after an error, in seconds.
RETRY_S = 1.0
#: How long a follower waits for the first event of a job that it has seen the submit of, in seconds.
FIRST_EVENT_S = 0.1


def follow(
    backend: Backend, job_id: str, last: int, idle_s: float | None = None, *, new: bool = False
) -> Generator[LoggedEvent | None]:
    """Yield the job's events after number `last`, up to the terminal event, and None while nothing is new.

    None comes at least every `idle_s` seconds. The default and the maximum of `idle_s` is the heartbeat of
    the settings.

    If the job is `new`, the caller submits it after the first None, which comes at once. The subscription is
    then on its way before the job, so that usually no event is left for a read of the log.
    """
    heartbeat_s = backend.settings.heartbeat_s
    wait_s = min(idle_s or heartbeat_s, heartbeat_s)
    with backend.feed.join(backend.store.channel(job_id)) as inbox:
        if new:
            yield None
        reader = _EventReader(backend.ledger, job_id, inbox, heartbeat_s, new)
        while True:
            events = reader.wait(last, wait_s)
            if reader.exhausted:
                return
            for event in events:
                yield event
                last = event.n
                if event.terminal:
                    return
            if not events:
                yield None


class _EventReader:
    """A job's events, taken from the live feed where possible and from the log where necessary.

    Live events are used as long as their numbers are consecutive. The log is read at the start, after a gap,
    after a lost connection, when the client was too slow for its inbox, and at every heartbeat to be safe. At
    the start of a `new` job it is read only if the next event does not come live.
    """

    def __init__(self, ledger: Ledger, job_id: str, inbox: Inbox, heartbeat_s: float, new: bool) -> None:
        self._ledger = ledger
        self._job_id = job_id
        self._inbox = inbox
        self._heartbeat_s = heartbeat_s
        self._new = new
        self._log_read_at = time.monotonic()
        #: True if the last read of the log has failed, so that it must be read again soon.
        self._must_read = False
        #: True once the job can have no further events: it has ended, or it is forgotten.
        self.exhausted = False

    def wait(self, last: int, wait_s: float) -> Sequence[LoggedEvent]:
        """Return the events after number `last`, or none if nothing comes within `wait_s` seconds."""
        while True:
            try:
                event = self._inbox.get(min(wait_s, RETRY_S) if self._must_read else wait_s)
                if event is None and self._new:
                    event = self._first_event()
            except TimeoutError:
                heartbeat_due = time.monotonic() - self._log_read_at >= self._heartbeat_s
                return self._read_log(last) if heartbeat_due or self._must_read else []
            if event is None or event.n > last + 1:  # events may be missing, or are
                return self._read_log(last)
            if event.n == last + 1:
                return [event]
            # The log has already delivered this event. Wait for the next one.

    def _first_event(self) -> LoggedEvent | None:
        """Return the first live event of a new job, or None if it does not come soon."""
        self._new = False
        with suppress(TimeoutError):
            return self._inbox.get(FIRST_EVENT_S)
        return None

    def _read_log(self, last: int) -> Sequence[LoggedEvent]:
        """Return the log's events after number `last`: none while Redis is away. Sets `exhausted`."""
        events: Sequence[LoggedEvent] = []
        self._must_read = False
        try:
            events = self._ledger.events(self._job_id, last)
            if not events:
                record = self._ledger.get(self._job_id)
                self.exhausted = record.terminal and record.events == last
        except (RedisError, NotReplicated):
            self._must_read = True
        except JobNotFound:
            self.exhausted = True
        self._log_read_at = time.monotonic()
        return events
