"""Cancels a job if its client disconnects while it waits for the answer on this connection."""

import logging
import select
from collections.abc import Generator, Mapping, Sequence
from typing import Any

from gevent.monkey import get_original
from redis.exceptions import RedisError

from webapi.services.backend import Backend
from webapi.services.follow import follow
from webapi.submission.submit import cancel
from worker.jobs.errors import JobNotFound
from worker.jobs.events import LoggedEvent
from worker.jobs.logs.facts import facts

__all__ = [
    "cancel_all_on_disconnect",
    "cancel_on_disconnect",
    "cancel_unless_ended",
    "is_disconnected",
    "while_connected",
]

logger = logging.getLogger(__name__)

#: How often the connection is checked at least while the job has no events, in seconds.
POLL_S = 1.0

#: The operating system's poll, called with a timeout of 0. gevent's poll does not report POLLRDHUP, and it
#: would switch to the hub.
_poll = get_original("select", "poll")
#: POLLRDHUP exists on Linux only. Elsewhere POLLHUP reports the closed connection when POLLIN is polled.
_PEER_CLOSED = getattr(select, "POLLRDHUP", 0)
_CLOSED = _PEER_CLOSED | select.POLLHUP | select.POLLERR | select.POLLNVAL


def is_disconnected(environ: Mapping[str, Any]) -> bool:
    """Return True if the request's client has closed its connection.

    Servers other than gunicorn do not show the connection. For them the result is always False.

    The check reads nothing from the connection, plain or TLS. So a request that the client has sent ahead
    (pipelining) is kept, and does not count as a disconnect.
    """
    connection = environ.get("gunicorn.socket")
    if connection is None:
        return False
    if connection.fileno() < 0:
        return True
    poll = _poll()
    poll.register(connection.fileno(), select.POLLIN | _PEER_CLOSED)
    return any(flags & _CLOSED for _, flags in poll.poll(0))


def cancel_on_disconnect(
    backend: Backend, job_id: str, environ: Mapping[str, Any], idle_s: float = POLL_S
) -> Generator[LoggedEvent | None, None, None]:
    """Yield the job's events up to its terminal event while the client stays connected.

    While there are none, it yields None every `idle_s` seconds, at least once a second. The connection is
    checked before each event and each None. If the client has disconnected, or if this iterator is closed
    early, the job is canceled.
    """
    return cancel_unless_ended(backend, job_id, while_connected(backend, job_id, environ, idle_s))


def cancel_unless_ended(
    backend: Backend, job_id: str, events: Generator[LoggedEvent | None, None, None]
) -> Generator[LoggedEvent | None, None, None]:
    """Yield the job's events. If they end before the terminal event, or if this is closed, cancel the job."""
    ended = False
    try:
        for event in events:
            ended = event is not None and event.terminal
            yield event
    finally:
        if not ended:
            _cancel(backend, job_id)


def while_connected(
    backend: Backend, job_id: str, environ: Mapping[str, Any], idle_s: float = POLL_S, *, new: bool = False
) -> Generator[LoggedEvent | None, None, None]:
    """Yield what `cancel_on_disconnect` yields, and cancel nothing. `new` is that of `follow`."""
    for event in follow(backend, job_id, 0, min(idle_s, POLL_S), new=new):
        if is_disconnected(environ):
            return
        yield event


def cancel_all_on_disconnect(
    backend: Backend, job_ids: Sequence[str], environ: Mapping[str, Any], idle_s: float = POLL_S
) -> Generator[LoggedEvent | None, None, None]:
    """Yield the events of several jobs, one job after the other, as `cancel_on_disconnect` does.

    If a job does not succeed, its events are the last ones. The jobs after it are then canceled, and also if
    the client disconnects.
    """
    waiting = list(job_ids)
    try:
        while waiting:
            event = None
            for event in cancel_on_disconnect(backend, waiting.pop(0), environ, idle_s):
                yield event
            if event is None or event.type != "succeeded":
                return
    finally:
        for job_id in waiting:
            _cancel(backend, job_id)


def _cancel(backend: Backend, job_id: str) -> None:
    try:
        logger.info("the client disconnected, canceling the job", extra=facts(job=job_id))
        cancel(backend, job_id)
    except JobNotFound:
        logger.info("the client disconnected, but the job was already deleted", extra=facts(job=job_id))
    except RedisError as error:
        logger.warning(
            "the client disconnected, but the job could not be canceled: %s", error, extra=facts(job=job_id)
        )
