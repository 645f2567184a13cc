"""JSON schemas for structured answers."""

from typing import Any

__all__ = ["CITY", "TOWN"]

#: An object with a text, a number and a list.
CITY: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 20},
        "people": {"type": "integer", "minimum": 0, "maximum": 99999},
        "tags": {"type": "array", "items": {"enum": ["big", "old", "rich"]}, "maxItems": 3},
    },
    "required": ["city", "people", "tags"],
    "additionalProperties": False,
}

#: An object with a text and a truth value, whose answers are short.
TOWN: dict[str, Any] = {
    "type": "object",
    "properties": {"town": {"type": "string", "maxLength": 9}, "old": {"type": "boolean"}},
    "required": ["town", "old"],
    "additionalProperties": False,
}
