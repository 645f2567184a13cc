"""The route that streams a job's events as Server-Sent Events, without a gap from any cursor."""

import re
from collections.abc import Iterable

from flask import Blueprint, Response, request

from webapi.auth import access
from webapi.description.parts import EVENT_STREAM, JSON, Json, parameter, sse_event
from webapi.description.route import AnswerSpec, describe
from webapi.http.sse import HEADERS, frames
from webapi.services.backend import current_backend
from webapi.services.follow import follow
from worker.jobs.errors import InvalidInput
from worker.jobs.events import LoggedEvent

__all__ = ["routes"]

routes = Blueprint("streams", __name__)

CURSOR: Json = {"type": "string", "pattern": "^[0-9]{1,15}$"}
EVENT = {"$ref": "#/components/schemas/EventDocument"}


@routes.get("/v1/jobs/<job_id>/events")
@describe(
    "read",
    {
        200: AnswerSpec(
            "Server-Sent Events: `id` is the event's number, `event` its type, `data` an EventDocument "
            "as JSON. The server sends comment lines while there are no events. "
            "It closes the stream after the terminal event.",
            content={EVENT_STREAM: sse_event({"contentMediaType": JSON, "contentSchema": EVENT})},
        ),
        204: AnswerSpec(
            "The client has received all events, including the terminal event. "
            "An EventSource does not reconnect after this response."
        ),
    },
    (404, 422, 429),
    parameters=(
        parameter("Last-Event-ID", "The number of the last event that the client received.", **CURSOR),
        parameter(
            "starting_after", "The same number, for clients that cannot send headers.", "query", **CURSOR
        ),
    ),
    reads=True,
)
def events(job_id: str) -> Response:
    """Stream the job's events, from the client's cursor up to the terminal event."""
    backend = current_backend()
    record = access.job(job_id)
    last = _cursor(record.events)
    if record.terminal and last == record.events and "Last-Event-ID" in request.headers:
        return Response(status=204)  # makes an EventSource stop reconnecting
    backend.streams.count(access.owner())
    if record.terminal:
        logged: Iterable[LoggedEvent | None] = backend.ledger.events(job_id, last)
    else:
        logged = follow(backend, job_id, last, backend.settings.stream_silence_s)
    return Response(frames(logged), mimetype="text/event-stream", headers=HEADERS)


def _cursor(newest: int) -> int:
    """Return the number of the last event that the client has, or 0.

    The header of a reconnecting client is newer than the query of its URL, so the header wins.
    Raises `InvalidInput` if either is not the number of one of the job's `newest` events.
    """
    cursor = 0
    for name, given in (("starting_after", request.args), ("Last-Event-ID", request.headers)):
        text = given.get(name, str(cursor))
        if not re.fullmatch("[0-9]{1,15}", text) or int(text) > newest:
            raise InvalidInput(name, f"must be the number of one of the job's events, 0 to {newest}")
        cursor = int(text)
    return cursor
