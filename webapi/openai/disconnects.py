"""Attendance: a job whose client waits on this very connection is canceled when the client hangs up."""

import logging
import select
from collections.abc import Generator, Mapping
from typing import Any

from gevent.monkey import get_original
from redis.exceptions import RedisError

from webapi.services.backend import Backend
from webapi.services.follow import follow
from webapi.submission.submit import cancel
from worker.jobs.errors import JobNotFound
from worker.jobs.events import LoggedEvent

__all__ = ["cancel_on_disconnect", "is_disconnected"]

logger = logging.getLogger(__name__)

#: How often to look at the connection while nothing happens, in seconds.
LOOK_S = 1.0

#: The system's own, asked not to wait: gevent's knows no hang-up, and would go through its hub.
_poll = get_original("select", "poll")
#: Only Linux has it; elsewhere who polls for input is told of the end by POLLHUP.
_PEER_CLOSED = getattr(select, "POLLRDHUP", 0)
_CLOSED = _PEER_CLOSED | select.POLLHUP | select.POLLERR | select.POLLNVAL


def is_disconnected(environ: Mapping[str, Any]) -> bool:
    """Whether the request's client has closed its connection; False under servers that do not show it.

    Nothing is read, so what the client sent ahead, on plain or TLS connections, stays and is no hang-up.
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
    backend: Backend, job_id: str, environ: Mapping[str, Any]
) -> Generator[LoggedEvent, None, None]:
    """The job's events up to its end. Before each, and while there are none, the client must be there.

    If it is not, or if the iterator is closed early, the job is canceled.
    """
    ended = False
    try:
        for event in follow(backend, job_id, 0, LOOK_S):
            if is_disconnected(environ):
                return
            if event is not None:
                ended = event.terminal
                yield event
    finally:
        if not ended:
            _cancel(backend, job_id)


def _cancel(backend: Backend, job_id: str) -> None:
    try:
        logger.info("job %s: its client hung up", job_id)
        cancel(backend, job_id)
    except JobNotFound:
        logger.info("job %s: its client hung up after it was forgotten", job_id)
    except RedisError as error:
        logger.warning("job %s: its client hung up, but it goes on: %s", job_id, error)
