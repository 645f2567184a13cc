"""The base of the classes that hold the settings of one area, and the types of settings that are lists."""

import re
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, PlainSerializer
from pydantic_core import PydanticCustomError

__all__ = ["Area", "CommaSeparated", "matching"]

_Part = TypeVar("_Part")


class Area(BaseModel):
    """The settings of one area. The title names their table in the documentation.

    The docstring below a field is its description. A field that `repr` omits is a secret.
    """

    # Only `Settings` is validated, so only its validator is built.
    model_config = ConfigDict(use_attribute_docstrings=True, defer_build=True)


def _split(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _join(parts: tuple[object, ...]) -> str:
    return ",".join(map(str, parts))


#: A tuple that is written as text with commas between its parts.
CommaSeparated = Annotated[
    tuple[_Part, ...], BeforeValidator(_split), PlainSerializer(_join, when_used="json")
]


def matching(pattern: str, what: str, *, secret: bool = False) -> AfterValidator:
    """Return a validator that refuses texts that do not match the pattern, because they are not `what`.

    The error does not show the text of a secret.
    """

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            shown = "this" if secret else text
            raise PydanticCustomError("pattern", "{text} is not {what}", {"text": shown, "what": what})
        return text

    return AfterValidator(check)
