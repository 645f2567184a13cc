"""The base of the models of chat requests: null stands for no value, as in OpenAI's API."""

from typing import Any

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

__all__ = ["Nullable"]

#: The keywords of a schema that only annotate it; they stay outside of `anyOf`.
ANNOTATIONS = {"title", "description", "default"}


class Nullable(BaseModel):
    """A frozen model whose optional fields also take null, which means the default.

    The docstring below a field is its description in the API.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, given: Any) -> Any:
        """Take null for no value. A field without a default stays, so that its own error names it."""
        if not isinstance(given, dict):
            return given
        optional = {name for name, field in cls.model_fields.items() if not field.is_required()}
        return {name: value for name, value in given.items() if value is not None or name not in optional}

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return the schema with null as a further type of optional fields."""
        schema = handler.resolve_ref_schema(handler(core))
        null = {"type": "null"}
        for name, field in schema["properties"].items():
            if name not in schema.get("required", ()):
                only = {key: field.pop(key) for key in field.keys() - ANNOTATIONS - {"anyOf"}}
                kinds = field.pop("anyOf", None) or [only]
                field["anyOf"] = [kind for kind in kinds if kind != null] + [null]
        return schema
