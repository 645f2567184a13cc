"""The forms that a client can ask for: an answer that is JSON of a schema, a choice, or text of a grammar."""

import json
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, JsonValue, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from worker.jobs.chat.bounded_json import bounded
from worker.jobs.chat.nullable import Nullable

__all__ = ["ResponseFormat", "StructuredOutputs"]

#: The largest schema or grammar, and the largest regular expression or choice.
MAX_BYTES, MAX_CHARS = 2**16, 4096


def _parsed(schema: Any) -> Any:
    """Return the schema in a JSON text. vLLM takes both forms."""
    if not isinstance(schema, str):
        return schema
    try:
        return json.loads(schema[: MAX_BYTES + 1])
    except RecursionError:
        raise PydanticCustomError("json", "is nested too deeply") from None
    except ValueError as error:
        raise PydanticCustomError("json", "is not valid JSON: {reason}", {"reason": str(error)}) from None


Schema = Annotated[dict[str, JsonValue], bounded(MAX_BYTES)]
Pattern = Annotated[str, StringConstraints(max_length=MAX_CHARS)]
Choice = Annotated[str, StringConstraints(min_length=1, max_length=MAX_CHARS)]
Grammar = Annotated[str, StringConstraints(min_length=1, max_length=MAX_BYTES)]


class _Aliased(Nullable):
    """A model with fields whose names in Python are not those in requests."""

    model_config = ConfigDict(serialize_by_alias=True)


class StructuredOutputs(_Aliased):
    """The form of an answer: exactly one of `json`, `json_object`, `regex`, `choice` and `grammar`."""

    json_schema: Annotated[Schema, BeforeValidator(_parsed, json_schema_input_type=Schema | str)] | None = (
        Field(None, alias="json")
    )
    """The answer is JSON that this JSON schema describes."""
    json_object: bool = False
    """With true, the answer is a JSON object."""
    regex: Pattern | None = None
    """The whole answer matches this regular expression, in the syntax of Rust's `regex`."""
    choice: Annotated[list[Choice], Field(min_length=1, max_length=1024)] | None = None
    """The answer is one of these texts."""
    grammar: Grammar | None = None
    """The answer is a text of this grammar, in the Lark syntax of llguidance or in GBNF."""
    strict: bool = True
    """With false, keywords of the JSON schema that cannot be enforced are ignored. With true, they are
    refused."""

    @model_validator(mode="after")
    def _one_form(self) -> "StructuredOutputs":
        forms = (self.json_schema, self.json_object or None, self.regex, self.choice, self.grammar)
        if sum(form is not None for form in forms) != 1:
            raise PydanticCustomError(
                "form", "needs exactly one of json, json_object, regex, choice and grammar"
            )
        return self


class JsonSchemaFormat(_Aliased):
    """The JSON schema of an answer, in OpenAI's form."""

    name: str | None = None
    """A name for the schema. It changes nothing."""
    description: str | None = None
    """A description of the schema. It changes nothing."""
    json_schema: Schema = Field(alias="schema")
    """The JSON schema."""
    strict: bool = False
    """With true, keywords of the schema that cannot be enforced are refused. Otherwise they are ignored."""


class ResponseFormat(Nullable):
    """The form of an answer, as OpenAI's API asks for it."""

    type: Literal["text", "json_object", "json_schema"]
    """With "json_object" the answer is a JSON object, and with "json_schema" it is JSON of `json_schema`."""
    json_schema: JsonSchemaFormat | None = None
    """The schema, if `type` is "json_schema"."""

    @model_validator(mode="after")
    def _with_schema(self) -> "ResponseFormat":
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise PydanticCustomError("schema", 'the type "json_schema", and only it, needs json_schema')
        return self

    @property
    def structured_outputs(self) -> StructuredOutputs | None:
        """The same request in the form that engines take; None for text."""
        if self.json_schema is None:
            return StructuredOutputs(json_object=True) if self.type == "json_object" else None
        return StructuredOutputs(json=self.json_schema.json_schema, strict=self.json_schema.strict)
