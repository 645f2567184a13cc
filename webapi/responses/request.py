"""The body of `POST /v1/responses`."""

from typing import Any, Literal

from pydantic import ConfigDict, Field, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from webapi.http.json_structure import MAX_KEYS
from webapi.responses.input_items import Input
from webapi.responses.options import ResponseOptions
from webapi.submission.neutral_fields import without_neutral
from worker.jobs.errors import InvalidInput
from worker.jobs.specs import validate

__all__ = ["ResponseRequest", "read_request"]

#: Fields that would change the response and are not supported. Null asks for nothing.
UNSUPPORTED = ("conversation", "prompt", "context_management", "moderation")

Includable = Literal[
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
    "reasoning.encrypted_content",
    "message.output_text.logprobs",
]


class ResponseRequest(ResponseOptions):
    """A request for a response. Null means the same as no value.

    The fields of a native chat job that have no name in OpenAI's API are taken, too, such as `stop`, `seed`
    or `webhook_url`. Other fields are ignored, or refused if they would change the answer.
    """

    model_config = ConfigDict(extra="ignore")

    input: Input
    """The new part of the conversation: a text of the user, or a list of items."""
    model: str | None = Field(None, max_length=256)
    """The model that answers; null means the default one."""
    include: list[Includable] = Field([], max_length=16)
    """With `message.output_text.logprobs` the text has log-probabilities. All others change nothing here."""
    stream: bool = False
    """With true, the response comes as events, while the model writes it."""

    @property
    def logprobs(self) -> bool:
        """True if the text has log-probabilities."""
        return bool(self.top_logprobs) or "message.output_text.logprobs" in self.include

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return the schema with the limit of a JSON body's keys."""
        return super().__get_pydantic_json_schema__(core, handler) | {"maxProperties": MAX_KEYS}


def read_request(body: Any) -> tuple[ResponseRequest, dict[str, Any]]:
    """Return the request in a JSON body, and all fields of the body.

    Raises `InvalidInput` for the first field that is invalid or asks for an unsupported feature.
    """
    if not isinstance(body, dict):
        raise InvalidInput("body", "must be a JSON object")
    fields = without_neutral({name: value for name, value in body.items() if value is not None})
    for name in UNSUPPORTED:
        if name in fields:
            raise InvalidInput(name, f"{name} is not supported here")
    return validate(ResponseRequest, fields, "ignore"), fields
