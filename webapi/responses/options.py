"""The options of a response: the fields of a request that the response returns as they were given."""

from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    WrapValidator,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from worker.jobs.chat.bounded_json import bounded
from worker.jobs.chat.nullable import Nullable
from worker.jobs.chat.tools import FunctionDefinition, NamedFunction, Text, check_choice
from worker.jobs.specs import ShortText

__all__ = ["FunctionTool", "NamedFunctionChoice", "ResponseOptions", "TextFormat"]

#: Most bytes of the JSON schema of an answer, as in `worker.jobs.chat.structured_outputs`.
MAX_SCHEMA = 2**16

MetadataKey = Annotated[str, StringConstraints(max_length=64)]
MetadataValue = Annotated[str, StringConstraints(max_length=512)]


def _functions_only(kind: Any) -> Any:
    if isinstance(kind, str) and kind != "function":
        raise PydanticCustomError(
            "unsupported", "{kind} is not supported here: only functions are", {"kind": kind[:64]}
        )
    return kind


class _TypedFunction(Nullable):
    """The type of a tool, which is checked before its other fields."""

    type: Annotated[Literal["function"], BeforeValidator(_functions_only)]


class FunctionTool(FunctionDefinition, _TypedFunction):
    """A function that the model may call. The client runs it."""


class NamedFunctionChoice(NamedFunction, _TypedFunction):
    """The function that the model has to call."""


class TextFormat(Nullable):
    """The form of the text: any text, a JSON object, or JSON of a schema."""

    model_config = ConfigDict(serialize_by_alias=True)

    type: Literal["text", "json_object", "json_schema"] = "text"
    name: Text | None = None
    """A name for the schema. It changes nothing."""
    description: Text | None = None
    """A description of the schema. It changes nothing."""
    json_schema: Annotated[dict[str, JsonValue], bounded(MAX_SCHEMA)] | None = Field(None, alias="schema")
    """The JSON schema, if `type` is "json_schema"."""
    strict: bool = False
    """With true, keywords of the schema that cannot be enforced are refused. Otherwise they are ignored."""

    @model_validator(mode="after")
    def _with_schema(self) -> "TextFormat":
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise PydanticCustomError("schema", 'the type "json_schema", and only it, needs a schema')
        return self


class TextOptions(Nullable):
    """The form of the text of a response."""

    format: TextFormat = TextFormat()
    verbosity: Literal["low", "medium", "high"] = "medium"
    """It changes nothing here, as in chat completions."""


class ReasoningOptions(Nullable):
    """How the model should think. A response has the whole reasoning, so `auto` is the only summary."""

    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    """How long the model should think. It is a hint for the model's chat template, which may ignore it."""
    summary: Literal["auto"] | None = None
    """A response has no summary of the reasoning."""


class ResponseOptions(Nullable):
    """The fields of a request that its response returns as they were given."""

    background: bool = False
    """With true, the response goes on if its client disconnects. It needs `store`."""
    instructions: Text | None = None
    """The first message, of the role `system`. A response that continues this one does not get it."""
    max_output_tokens: int | None = Field(None, ge=1, lt=2**31 - 1)
    """The most tokens of the response, reasoning included. Null means that only the context limits them."""
    max_tool_calls: int | None = Field(None, ge=1)
    """It limits tools that the server runs. There are none here, so it changes nothing."""
    metadata: Annotated[dict[MetadataKey, MetadataValue], Field(max_length=16)] = Field({})
    """Up to 16 texts of the client."""
    parallel_tool_calls: bool = True
    """With false, a response has at most one call."""
    previous_response_id: ShortText | None = None
    """The response whose conversation this one continues. It must have ended with an answer."""
    prompt_cache_key: ShortText | None = None
    """It changes nothing here."""
    reasoning: ReasoningOptions = ReasoningOptions()
    safety_identifier: ShortText | None = None
    """It changes nothing here."""
    service_tier: ShortText | None = None
    """It changes nothing here."""
    store: bool = True
    """With false, nobody can retrieve the response, and it is deleted when its client has received it."""
    temperature: float = Field(1.0, ge=0, le=2, allow_inf_nan=False)
    """How much chance decides. With 0 each token is the likeliest one (greedy)."""
    text: TextOptions = TextOptions()
    tool_choice: Annotated[
        Literal["none", "auto", "required"] | NamedFunctionChoice, WrapValidator(check_choice)
    ] = "auto"
    """With `auto` the model may call tools, with `required` it calls at least one, and with `none` it sees no
    tools."""
    tools: list[FunctionTool] = Field([])
    """The functions that the model may call."""
    top_logprobs: int = Field(0, ge=0, le=20)
    """This many of the likeliest tokens at each place are part of the log-probabilities of the text."""
    top_p: float = Field(1.0, gt=0, le=1, allow_inf_nan=False)
    """Tokens are drawn from the smallest set of tokens that together have at least this probability."""
    truncation: Literal["disabled"] = "disabled"
    """A conversation that is too long is always refused."""
    user: ShortText | None = None
    """It changes nothing here."""

    @field_validator("store")
    @classmethod
    def _kept_in_background(cls, store: bool, fields: Any) -> bool:
        if not store and fields.data.get("background"):
            raise PydanticCustomError("store", "must be true for a response in the background")
        return store
