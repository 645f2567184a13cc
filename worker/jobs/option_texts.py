"""Options of a frame model as texts, in forms and commands: they become values that its schema allows."""

import math
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from pydantic import JsonValue

from worker.jobs.errors import InvalidInput
from worker.jobs.options import Option

__all__ = ["MAX_TEXT", "read_options", "require_options"]

#: The longest text of an option, in characters. Redis keeps it.
MAX_TEXT = 16_384

#: The texts that stand for a boolean, as pydantic reads them in the other fields of the form.
_BOOLEANS = {
    **dict.fromkeys(("1", "true", "t", "yes", "y", "on"), True),
    **dict.fromkeys(("0", "false", "f", "no", "n", "off"), False),
}


def _boolean(text: str) -> bool:
    if (found := _BOOLEANS.get(text.lower())) is None:
        raise ValueError
    return found


def _number(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError
    return number


def _null(text: str) -> None:
    if text:
        raise ValueError


#: The readers of the JSON types. Where an option may have several types, the first that fits counts. Readers
#: raise ValueError for a text that does not fit.
_READERS: Mapping[str, Callable[[str], JsonValue]] = {
    "integer": int,
    "number": _number,
    "boolean": _boolean,
    "string": str,
    "null": _null,
}


def read_options(
    options: Mapping[str, Option], texts: Mapping[str, str], files: Collection[str]
) -> dict[str, JsonValue]:
    """Return the values of the options that come as text, without those that equal their default.

    `texts` and `files` have names of options only. Raises `InvalidInput` that names the first wrong option.
    """
    for name in files:
        if not options[name].takes_file:
            raise InvalidInput(name, f"must be {options[name].values}, and not a file")
    values = {name: _read(options[name], text) for name, text in texts.items()}
    return {name: value for name, value in values.items() if not _is_default(options[name], value)}


def require_options(options: Mapping[str, Option], given: Collection[str]) -> None:
    """Raise `InvalidInput` for the first option without a default that is not `given`."""
    for name, option in options.items():
        if option.required and name not in given:
            raise InvalidInput(name, f"is missing: it must be {option.values}")


def _read(option: Option, text: str) -> JsonValue:
    # Not at the top of the module: it would take a tenth of the time of the API's imports, and half of it
    # where the package rfc3987-syntax is installed.
    from jsonschema import Draft202012Validator

    if len(text) > MAX_TEXT:
        raise InvalidInput(option.name, f"may have at most {MAX_TEXT} characters")
    for kind, read in _READERS.items():
        for schema in option.alternatives:
            if schema.get("format") != "binary" and schema.get("type", kind) == kind:
                try:
                    value = read(text)
                except ValueError:
                    continue
                if Draft202012Validator(_checkable(schema)).is_valid(value):
                    return value
    raise InvalidInput(option.name, f"must be {option.values}")


def _checkable(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the schema without a pattern that only pydantic's regular expressions can have.

    The worker checks the value against it.
    """
    try:
        re.compile(schema.get("pattern", ""))
    except re.error:
        return {keyword: value for keyword, value in schema.items() if keyword != "pattern"}
    return schema


def _is_default(option: Option, value: Any) -> bool:
    default = option.schema.get("default", option)
    return bool(value == default and isinstance(value, bool) == isinstance(default, bool))
