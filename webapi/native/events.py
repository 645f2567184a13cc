"""Streams: a job's events over Server-Sent Events, gapless from any cursor."""

import re
from collections.abc import Iterable

from flask import Blueprint, Response, request

from webapi.auth import access
from webapi.http.sse import HEADERS, frames
from webapi.services.backend import current_backend
from webapi.services.follow import follow
from worker.jobs.errors import InvalidInput
from worker.jobs.events import LoggedEvent

__all__ = ["routes"]

routes = Blueprint("streams", __name__)


@routes.get("/v1/jobs/<job_id>/events")
def events(job_id: str) -> Response:
    """The job's events, from the client's cursor to the end."""
    backend = current_backend()
    record = access.job(job_id)
    last = _cursor(record.events)
    if record.terminal and last == record.events and "Last-Event-ID" in request.headers:
        return Response(status=204)  # tells an EventSource to come back no more
    if record.terminal:
        logged: Iterable[LoggedEvent | None] = backend.ledger.events(job_id, last)
    else:
        logged = follow(backend, job_id, last)
    return Response(frames(logged), mimetype="text/event-stream", headers=HEADERS)


def _cursor(newest: int) -> int:
    """The number of the last event the client has; a reconnecting client's header is the newer."""
    cursor = 0
    for name, given in (("starting_after", request.args), ("Last-Event-ID", request.headers)):
        text = given.get(name, str(cursor))
        if not re.fullmatch("[0-9]{1,15}", text) or int(text) > newest:
            raise InvalidInput(name, f"must be the number of one of the job's events, 0 to {newest}")
        cursor = int(text)
    return cursor
