"""The options of frame models, as the JSON schema describes them that pydantic makes of a model's class."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

__all__ = ["COLUMNS", "MATTING_OPTIONS", "Option", "options_of"]

Schema = Mapping[str, Any]

#: The options of the matting model of release 0.2.0, whose workers do not publish them.
MATTING_OPTIONS: Schema = {
    "type": "object",
    "properties": {
        "effect": {
            "type": "string",
            "enum": ["background", "blur", "matte"],
            "default": "background",
            "description": "Puts `background` behind the person, blurs what is there, or returns the matte.",
        },
        "background": {
            "anyOf": [
                {"type": "string", "format": "color", "pattern": "^#[0-9a-fA-F]{6}$"},
                {"type": "string", "format": "binary", "contentMediaType": "image/*"},
            ],
            "default": "#00b140",
            "description": "A colour as #rrggbb, or an image file. Only for the effect `background`.",
        },
    },
    "additionalProperties": False,
}
#: The titles of the columns of `Option.row`.
COLUMNS = "OPTION VALUE DEFAULT DESCRIPTION"
_NUMBERS = {"integer": "an integer", "number": "a number"}
_NUMBER_LIMITS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "above {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "below {}",
    "multipleOf": "a multiple of {}",
}
_TEXT_LIMITS = {
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "pattern": "matching {}",
}


@dataclass(frozen=True)
class Option:
    """An option of a frame model. `schema` is its own, and `definitions` are those that it refers to."""

    name: str
    schema: Schema
    definitions: Schema
    required: bool

    @cached_property
    def alternatives(self) -> list[Schema]:
        """The schemas of the values that it may have. None of them is a union or a reference."""
        return list(self._alternatives(self.schema))

    def _alternatives(self, schema: Schema) -> Iterator[Schema]:
        parts = schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf")
        if "$ref" in schema:
            parts = [self.definitions[schema["$ref"].rpartition("/")[2]]]
        if not parts:
            yield schema
        for part in parts or ():
            yield from self._alternatives(part)

    @property
    def takes_text(self) -> bool:
        """Whether a request may set it to a value, as text."""
        return not all(map(_is_file, self.alternatives))

    @property
    def takes_file(self) -> bool:
        """Whether a request may upload a file as this option."""
        return any(map(_is_file, self.alternatives))

    @property
    def is_picture(self) -> bool:
        """Whether its file must be an image."""
        return any(each.get("contentMediaType") == "image/*" for each in self.alternatives)

    @property
    def form_schema(self) -> Schema:
        """The option's schema in a form, without references. Clients omit a field instead of sending null."""
        kept = ("title", "description", "default")
        about = {key: self.schema[key] for key in kept if self.schema.get(key) is not None}
        given = [each for each in self.alternatives if each.get("type") != "null"]
        return {**(given[0] if len(given) == 1 else {"anyOf": given}), **about}

    @property
    def values(self) -> str:
        """The values that it may have, as a part of a sentence: `a number, at least 0, at most 1`."""
        return " or ".join(_value(each) for each in self.alternatives if each.get("type") != "null")

    @property
    def row(self) -> list[str]:
        """The option as a row of a table, with the columns `COLUMNS`."""
        default = self.schema.get("default")
        shown = default if isinstance(default, str) else json.dumps(default)
        about = " ".join(self.schema.get("description", "").split())
        return [self.name, self.values, "required" if self.required else shown, about]


def options_of(schema: Schema) -> dict[str, Option]:
    """Return the options in the schema of a model's class, by name."""
    definitions, required = schema.get("$defs", {}), schema.get("required", ())
    return {
        name: Option(name, each, definitions, name in required)
        for name, each in schema.get("properties", {}).items()
    }


def _is_file(schema: Schema) -> bool:
    return bool(schema.get("format") == "binary")


def _value(schema: Schema) -> str:
    if _is_file(schema):
        return "an image file" if schema.get("contentMediaType") == "image/*" else "a file"
    choices = schema.get("enum", [schema["const"]] if "const" in schema else [])
    if choices:
        return ", ".join(map(str, choices[:-1])) + " or " * (len(choices) > 1) + str(choices[-1])
    if schema.get("format") == "color":
        return "a colour as #rrggbb, such as #00b140"
    if schema.get("type") == "boolean":
        return "true or false"
    if number := _NUMBERS.get(schema.get("type", "")):
        return ", ".join([number, *_limits(schema, _NUMBER_LIMITS)])
    return ", ".join(["a text", *_limits(schema, _TEXT_LIMITS)])


def _limits(schema: Schema, known: Mapping[str, str]) -> Iterator[str]:
    return (text.format(schema[keyword]) for keyword, text in known.items() if keyword in schema)
