"""Describes the routes of OpenAI's API, by their Flask endpoints."""

from typing import Any

from pydantic import ConfigDict, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from webapi.http.json_structure import MAX_KEYS
from webapi.openai.schema import ChatCompletion, ChatCompletionRequest, Model, ModelList
from webapi.openai.video_schema import Deleted, Listing, Video, VideoList
from webapi.openapi.native import IDEMPOTENCY, VIDEO_RESPONSES, form_of
from webapi.openapi.parts import (
    BINARY,
    EVENT_STREAM,
    X_STOKER_JOB,
    AnswerSpec,
    Body,
    Route,
    events,
    parameter,
)
from worker.jobs.specs import ChatJob

__all__ = ["ROUTES"]

#: The keywords of a schema that only annotate it; they stay outside of `anyOf`.
ANNOTATIONS = {"title", "description", "default"}


class ChatCompletionBody(ChatCompletionRequest, ChatJob):
    """The body of a chat request: OpenAI's fields, and those of a native chat job.

    Null means the same as no value. Other fields are ignored, or refused if they would change the answer.
    """

    model_config = ConfigDict(extra="ignore")

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return the schema with null as a further type of every optional field."""
        schema = handler.resolve_ref_schema(handler(core))
        schema["maxProperties"] = MAX_KEYS
        null = {"type": "null"}
        for name, field in schema["properties"].items():
            kinds = field.pop("anyOf", None) or [{key: field.pop(key) for key in set(field) - ANNOTATIONS}]
            if name not in schema["required"]:
                kinds = [kind for kind in kinds if kind != null] + [null]
            field["anyOf"] = kinds
        return schema


#: Error statuses of a submit, besides those of every route.
SUBMIT = (400, 404, 408, 413, 415, 429)
#: The schema of a form field that may be any text.
TEXT: dict[str, Any] = {}
SHORT = TEXT | {"maxLength": 1024}
VIDEO_FORM = form_of(
    {
        "input_reference": BINARY | {"description": "The clip from which the video is made."},
        "background": {"anyOf": [TEXT, BINARY], "description": "A colour, or an image file."},
        "prompt": SHORT | {"description": "Returned with the video, but not used by the models here."},
        "seconds": SHORT | {"description": "Returned with the video. Its real length is that of the clip."},
        "size": SHORT | {"description": "Returned with the video. Its real size is that of the clip."},
    },
    required="input_reference",
    omitted=("background_image", "requested"),
    extra=True,
)

ROUTES: dict[str, Route] = {
    "openai.complete": Route(
        {
            200: AnswerSpec(
                "The answer. With `stream`, `data:` lines with one ChatCompletionChunk each, then `[DONE]`.",
                ChatCompletion,
                X_STOKER_JOB,
                {EVENT_STREAM: events({"description": "A ChatCompletionChunk as JSON, or `[DONE]`."})},
            )
        },
        (*SUBMIT, 409, 504),
        Body(ChatCompletionBody),
    ),
    "openai.models": Route({200: AnswerSpec("The models.", ModelList)}),
    "openai.model": Route({200: AnswerSpec("The model.", Model)}, (404,)),
    "openai_videos.create": Route(
        {200: AnswerSpec("The video's job.", Video, X_STOKER_JOB)},
        (*SUBMIT, 507),
        Body(form=VIDEO_FORM, example="OpenAIVideoForm"),
        parameters=IDEMPOTENCY,
    ),
    "openai_videos.list_videos": Route(
        {200: AnswerSpec("A page of videos.", VideoList)}, (400, 404), query=Listing
    ),
    "openai_videos.show": Route({200: AnswerSpec("The video's job.", Video)}, (404,)),
    "openai_videos.content": Route(
        VIDEO_RESPONSES,
        (400, 404, 409, 416),
        parameters=(
            parameter(
                "variant", "Only the video itself is available.", "query", type="string", enum=["video"]
            ),
            parameter("Range", "The range of bytes: `bytes=0-1023`."),
        ),
    ),
    "openai_videos.delete": Route({200: AnswerSpec("The video is deleted.", Deleted)}, (404, 409)),
}
