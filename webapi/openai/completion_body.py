"""The description of the body of `POST /v1/chat/completions`."""

from pydantic import ConfigDict, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from webapi.http.json_structure import MAX_KEYS
from webapi.openai.request_fields import NUMBERS
from webapi.openai.schema import ChatCompletionRequest
from worker.jobs.specs import ChatJob

__all__ = ["ChatCompletionBody"]

#: The keywords of a schema that only annotate it; they stay outside of `anyOf`.
ANNOTATIONS = {"title", "description", "default"}


class ChatCompletionBody(ChatCompletionRequest, ChatJob):
    """The body of a chat request: OpenAI's fields, and those of a native chat job.

    Null means the same as no value, and a text such as "0.7" the same as the number. Other fields are
    ignored, or refused if they would change the answer.
    """

    model_config = ConfigDict(extra="ignore")

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return the schema with null as a further type of optional fields, and text as one of numbers."""
        schema = handler.resolve_ref_schema(handler(core))
        schema["maxProperties"] = MAX_KEYS
        null = {"type": "null"}
        for name, field in schema["properties"].items():
            kinds = field.pop("anyOf", None) or [{key: field.pop(key) for key in set(field) - ANNOTATIONS}]
            if name not in schema["required"]:
                kinds = [kind for kind in kinds if kind != null] + [null]
            if name in NUMBERS:
                kinds.append({"type": "string"})
            field["anyOf"] = kinds
        return schema
