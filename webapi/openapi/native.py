"""The native routes, by Flask's endpoints."""

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

#: What a submit can answer beside what any route can.
SUBMIT = (400, 413, 415, 422, 429)

IDEMPOTENCY = (
    parameter(
        "Idempotency-Key",
        "Requests with the same key and body make one job; the same key with another body is refused (422).",
        type="string",
        minLength=1,
        maxLength=255,
    ),
)
PREFERENCES = (
    *IDEMPOTENCY,
    parameter("Prefer", "`wait=N`: answer once the job has ended, or after N seconds (RFC 7240)."),
)
APPLIED = LOCATION | {
    "Preference-Applied": header("The preference that was followed.", required=False, pattern=r"^wait=\d+$")
}
SUBMITTED = {
    202: AnswerSpec("The job is queued, or runs already.", JobDocument, APPLIED),
    200: AnswerSpec("The job has ended: it was waited for, or made before.", JobDocument, APPLIED),
}
CURSOR: dict[str, Any] = {"type": "string", "pattern": "^[0-9]{1,15}$"}
EVENT = {"$ref": "#/components/schemas/EventDocument"}
RANGE = (parameter("Range", "The bytes that are wanted, of a video: `bytes=0-1023`."),)
#: A video's answers: whole, in part, and to a range behind its end.
VIDEO_RESPONSES = {
    200: AnswerSpec("The video.", headers=ACCEPT_RANGES, content={MP4: BINARY}),
    206: AnswerSpec("A part of the video.", headers=ACCEPT_RANGES | CONTENT_RANGE, content={MP4: BINARY}),
    304: AnswerSpec("The client has it already."),
}


def form_of(files: dict[str, Any], required: str, omitted: tuple[str, ...], extra: bool) -> dict[str, Any]:
    """The schema of a video job's multipart form: the job's own fields, and files."""
    known = VideoJob.model_json_schema()["properties"]
    fields = {name: _text(without_null(known[name])) for name in known if name not in {*omitted, *files}}
    return {
        "type": "object",
        "properties": files | fields,
        "required": [required],
        "maxProperties": MAX_PARTS,
        "additionalProperties": extra,
    }


def _text(field: dict[str, Any]) -> dict[str, Any]:
    """What is any text: in a form it has no type, for there 5 is text too."""
    anything = field.get("type") == "string" and not {"enum", "pattern"} & field.keys()
    return {word: value for word, value in field.items() if not (anything and word == "type")}


COLOUR = VideoJob.model_json_schema()["properties"]["background"]
VIDEO_FORM = form_of(
    {
        "file": BINARY | {"description": "The clip, whatever it is called."},
        "background": {"anyOf": [COLOUR, BINARY], "description": "A colour, or an image as a file."},
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
                "What a chat said, or the video.",
                ChatResultDocument,
                {"Accept-Ranges": header("For a video: that byte ranges can be asked for.", required=False)},
                {MP4: BINARY},
            )
        },
        (404, 409, 416),
        parameters=RANGE,
        reads=True,
    ),
    "jobs.memory": Route({200: AnswerSpec("The report.", MemoryDocument)}, (404,)),
    "jobs.memory_picture": Route({200: AnswerSpec("The report, drawn.", content={SVG: TEXT})}, (404,)),
    "jobs.cancel": Route(
        {
            200: AnswerSpec("The job has ended; canceled, unless it had ended before.", JobDocument),
            202: AnswerSpec("The job winds up.", JobDocument),
        },
        (404,),
    ),
    "jobs.forget": Route({204: AnswerSpec("It is forgotten.")}, (404, 409)),
    "streams.events": Route(
        {
            200: AnswerSpec(
                "Server-Sent Events: `id` is the event's number, `event` its type, `data` an EventDocument "
                "as JSON. Comment lines come while nothing happens. The stream closes after the ending.",
                content={EVENT_STREAM: events({"contentMediaType": JSON, "contentSchema": EVENT})},
            ),
            204: AnswerSpec("The client has all events, the ending too: an EventSource comes back no more."),
        },
        (404, 422),
        parameters=(
            parameter("Last-Event-ID", "Number of the last event that the client has.", **CURSOR),
            parameter("starting_after", "The same, where no header can be sent.", "query", **CURSOR),
        ),
        reads=True,
    ),
    "tokens.issue": Route(
        {
            200: AnswerSpec(
                "A token for this job's events and result.",
                TokenDocument,
                {"Set-Cookie": header("The same token, for pages of the same site.")},
            )
        },
        (404,),
    ),
    "ops.livez": Route({200: AnswerSpec("It does.", HealthDocument)}, free=True),
    "ops.readyz": Route({200: AnswerSpec("They do.", HealthDocument)}, free=True),
    "ops.queues": Route({200: AnswerSpec("The queues.", QueuesDocument)}),
    "ops.workers": Route({200: AnswerSpec("The workers.", WorkersDocument)}),
    "ops.metrics": Route(
        {
            200: AnswerSpec(
                "The exposition format that was asked for.",
                content={"text/plain": TEXT, "application/openmetrics-text": TEXT},
            )
        },
    ),
}
