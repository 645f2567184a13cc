"""Describes the routes of the native API, by their Flask endpoints."""

from typing import Any

from webapi.documents.jobs import (
    ChatResultDocument,
    HealthDocument,
    JobDocument,
    JobPageDocument,
    QueuesDocument,
    TokenDocument,
    WorkersDocument,
)
from webapi.documents.memory import MemoryDocument
from webapi.native.jobs import Page
from webapi.openapi.parts import (
    ACCEPT_RANGES,
    BINARY,
    CONTENT_RANGE,
    EVENT_STREAM,
    JSON,
    LOCATION,
    MP4,
    SVG,
    TEXT,
    AnswerSpec,
    Body,
    Route,
    events,
    header,
    parameter,
    without_null,
)
from webapi.submission.uploads import MAX_PARTS
from worker.jobs.specs import ChatJob, VideoJob

__all__ = ["IDEMPOTENCY", "ROUTES", "VIDEO_RESPONSES", "form_of"]

#: Error statuses of a submit, besides those of every route.
SUBMIT = (400, 408, 413, 415, 422, 429)

IDEMPOTENCY = (
    parameter(
        "Idempotency-Key",
        "Requests with the same key and the same body create one job. "
        "The same key with another body is refused with status 422.",
        type="string",
        minLength=1,
        maxLength=255,
    ),
)
PREFERENCES = (
    *IDEMPOTENCY,
    parameter(
        "Prefer",
        "`wait=N`: the response is sent when the job has ended, at the latest after N seconds (RFC 7240).",
    ),
)
APPLIED = LOCATION | {
    "Preference-Applied": header(
        "The preference that the server applied.", required=False, pattern=r"^wait=\d+$"
    )
}
SUBMITTED = {
    202: AnswerSpec("The job is queued or running.", JobDocument, APPLIED),
    200: AnswerSpec(
        "The job has ended: the request waited for it, or an earlier request with the same key created it.",
        JobDocument,
        APPLIED,
    ),
}
CURSOR: dict[str, Any] = {"type": "string", "pattern": "^[0-9]{1,15}$"}
EVENT = {"$ref": "#/components/schemas/EventDocument"}
RANGE = (parameter("Range", "The range of bytes of a video: `bytes=0-1023`."),)
#: Responses of a video: whole, in part, and for a client whose copy is current.
VIDEO_RESPONSES = {
    200: AnswerSpec("The video.", headers=ACCEPT_RANGES, content={MP4: BINARY}),
    206: AnswerSpec("A part of the video.", headers=ACCEPT_RANGES | CONTENT_RANGE, content={MP4: BINARY}),
    304: AnswerSpec("The client's copy of the video is current."),
}


def form_of(files: dict[str, Any], required: str, omitted: tuple[str, ...], extra: bool) -> dict[str, Any]:
    """Return the schema of a video job's multipart form.

    `files` are the schemas of the form's own fields. The form also has the fields of `VideoJob`, except
    `omitted`. `required` names the only required field; `extra` allows unknown fields.
    """
    known = VideoJob.model_json_schema()["properties"]
    fields = {name: _untyped(without_null(known[name])) for name in known if name not in {*omitted, *files}}
    return {
        "type": "object",
        "properties": files | fields,
        "required": [required],
        "maxProperties": MAX_PARTS,
        "additionalProperties": extra,
    }


def _untyped(field: dict[str, Any]) -> dict[str, Any]:
    """Return the schema without its type if it allows any text: in a form, 5 is a text too."""
    any_text = field.get("type") == "string" and not {"enum", "pattern"} & field.keys()
    return {keyword: value for keyword, value in field.items() if not (any_text and keyword == "type")}


COLOUR = VideoJob.model_json_schema()["properties"]["background"]
VIDEO_FORM = form_of(
    {
        "file": BINARY | {"description": "The clip. Its file name is ignored."},
        "background": {"anyOf": [COLOUR, BINARY], "description": "A colour, or an image file."},
    },
    required="file",
    omitted=("background_image", "requested"),
    extra=False,
)

ROUTES: dict[str, Route] = {
    "jobs.submit_chat": Route(SUBMITTED, SUBMIT, Body(ChatJob), parameters=PREFERENCES),
    "jobs.submit_video": Route(
        SUBMITTED, (*SUBMIT, 507), Body(form=VIDEO_FORM, example="VideoForm"), parameters=PREFERENCES
    ),
    "jobs.list_jobs": Route({200: AnswerSpec("A page of jobs.", JobPageDocument)}, (422,), query=Page),
    "jobs.show": Route({200: AnswerSpec("The job.", JobDocument)}, (404,)),
    "jobs.result": Route(
        VIDEO_RESPONSES
        | {
            200: AnswerSpec(
                "The text of a chat, or the video.",
                ChatResultDocument,
                {"Accept-Ranges": header("For a video: the route supports byte ranges.", required=False)},
                {MP4: BINARY},
            )
        },
        (404, 409, 416),
        parameters=RANGE,
        reads=True,
    ),
    "jobs.memory": Route({200: AnswerSpec("The report.", MemoryDocument)}, (404,)),
    "jobs.memory_picture": Route({200: AnswerSpec("The report as a drawing.", content={SVG: TEXT})}, (404,)),
    "jobs.cancel": Route(
        {
            200: AnswerSpec("The job is canceled, or it had ended before.", JobDocument),
            202: AnswerSpec("The job is running. Its worker ends it at the next step.", JobDocument),
        },
        (404,),
    ),
    "jobs.forget": Route({204: AnswerSpec("The job is deleted.")}, (404, 409)),
    "streams.events": Route(
        {
            200: AnswerSpec(
                "Server-Sent Events: `id` is the event's number, `event` its type, `data` an EventDocument "
                "as JSON. The server sends comment lines while there are no events. "
                "It closes the stream after the terminal event.",
                content={EVENT_STREAM: events({"contentMediaType": JSON, "contentSchema": EVENT})},
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
    ),
    "tokens.issue": Route(
        {
            200: AnswerSpec(
                "A token that gives access to this job's events and result.",
                TokenDocument,
                {"Set-Cookie": header("The same token as a cookie, for pages of the same site.")},
            )
        },
        (404,),
    ),
    "ops.livez": Route({200: AnswerSpec("This process answers.", HealthDocument)}),
    "ops.readyz": Route({200: AnswerSpec("Redis and a worker of each kind are ready.", HealthDocument)}),
    "ops.queues": Route({200: AnswerSpec("The queues.", QueuesDocument)}),
    "ops.workers": Route({200: AnswerSpec("The live workers.", WorkersDocument)}),
    "ops.metrics": Route(
        {
            200: AnswerSpec(
                "The metrics in the exposition format that the client accepts.",
                content={"text/plain": TEXT, "application/openmetrics-text": TEXT},
            )
        },
    ),
}
