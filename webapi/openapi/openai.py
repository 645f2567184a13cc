"""The routes that OpenAI's clients speak, by Flask's endpoints."""

from typing import Any

from pydantic import ConfigDict, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

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


#: The keywords of a schema that only tell of it.
WORDS = {"title", "description", "default"}


class ChatCompletionBody(ChatCompletionRequest, ChatJob):
    """All that is read: OpenAI's fields, and a native job's. Null is as good as left out.

    What is not listed is ignored, or refused if it would change the answer.
    """

    model_config = ConfigDict(extra="ignore")

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """With null for all that may be left out."""
        schema = handler.resolve_ref_schema(handler(core))
        null = {"type": "null"}
        for name, field in schema["properties"].items():
            kinds = field.pop("anyOf", None) or [{key: field.pop(key) for key in set(field) - WORDS}]
            if name not in schema["required"]:
                kinds = [kind for kind in kinds if kind != null] + [null]
            field["anyOf"] = kinds
        return schema


SUBMIT = (400, 404, 413, 415, 429)
#: Of a form's field, which may be any text.
TEXT: dict[str, Any] = {}
VIDEO_FORM = form_of(
    {
        "input_reference": BINARY | {"description": "The clip that the video is made of."},
        "background": {"anyOf": [TEXT, BINARY], "description": "A colour, or an image as a file."},
        "prompt": TEXT | {"description": "Shown again; the models here take none."},
        "seconds": TEXT | {"description": "Shown again; the clip's length counts."},
        "size": TEXT | {"description": "Shown again; the clip's size counts."},
    },
    required="input_reference",
    omitted=("background_image", "requested"),
    extra=True,
)

ROUTES: dict[str, Route] = {
    "openai.complete": Route(
        {
            200: AnswerSpec(
                "The answer; with `stream`, `data:` lines that are ChatCompletionChunks, then `[DONE]`.",
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
    "openai_videos.list_videos": Route({200: AnswerSpec("A page.", VideoList)}, (400, 404), query=Listing),
    "openai_videos.show": Route({200: AnswerSpec("The video's job.", Video)}, (404,)),
    "openai_videos.content": Route(
        VIDEO_RESPONSES,
        (400, 404, 409, 416),
        parameters=(
            parameter("variant", "Only the video itself is kept.", "query", type="string", enum=["video"]),
            parameter("Range", "The bytes that are wanted: `bytes=0-1023`."),
        ),
    ),
    "openai_videos.delete": Route({200: AnswerSpec("It is gone.", Deleted)}, (404, 409)),
}
