"""The description of the body of `POST /v1/completions`."""

from typing import Annotated, Any

from pydantic import ConfigDict, Field, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from webapi.http.json_structure import MAX_KEYS
from webapi.openai.request_fields import NUMBERS
from webapi.openai.text_completions.request import MAX_PROMPTS
from webapi.openai.text_completions.schema import TextCompletionRequest
from worker.jobs.chat.prompt_options import PromptOptions
from worker.jobs.chat.prompt_source import RawPrompt
from worker.jobs.specs import ChatJob

__all__ = ["TextCompletionBody"]

#: The fields of a chat job that a text completion does not have.
ABSENT = {*PromptOptions.model_fields, "messages", "top_logprobs"} - {"truncate_prompt_tokens"}


class TextCompletionBody(TextCompletionRequest, ChatJob):
    """The body of a request to continue prompts: OpenAI's fields, and those of a native chat job.

    `prompt` is one prompt or a list of them. Null means the same as no value, and a text such as "0.7" the
    same as the number. Other fields are ignored, or refused if they would change the answer.
    """

    model_config = ConfigDict(extra="ignore")

    prompt: RawPrompt | Annotated[list[RawPrompt], Field(min_length=1, max_length=MAX_PROMPTS)]  # type: ignore[assignment]

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return the schema of the fields, with text as a further type of numbers."""
        schema: dict[str, Any] = super().__get_pydantic_json_schema__(core, handler)
        schema["maxProperties"] = MAX_KEYS
        schema.pop("anyOf")
        for name in ABSENT:
            del schema["properties"][name]
        for name in NUMBERS & schema["properties"].keys():
            schema["properties"][name]["anyOf"].append({"type": "string"})
        return schema
