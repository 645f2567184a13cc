"""The description of the body of `POST /v1/chat/completions`."""

from pydantic import ConfigDict, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from webapi.http.json_structure import MAX_KEYS
from webapi.openai.request_fields import NUMBERS
from webapi.openai.schema import ChatCompletionRequest
from worker.jobs.specs import ChatJob

__all__ = ["ChatCompletionBody"]


class ChatCompletionBody(ChatCompletionRequest, ChatJob):
    """The body of a chat request: OpenAI's fields, and those of a native chat job.

    Null means the same as no value, and a text such as "0.7" the same as the number. Other fields are
    ignored, or refused if they would change the answer.
    """

    model_config = ConfigDict(extra="ignore")

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return the schema of a chat job's fields, with text as a further type of numbers."""
        schema = super().__get_pydantic_json_schema__(core, handler)
        schema["maxProperties"] = MAX_KEYS
        del schema["anyOf"], schema["properties"]["prompt"]
        schema["required"] = ["messages"]
        for name in NUMBERS:
            schema["properties"][name]["anyOf"].append({"type": "string"})
        return schema
