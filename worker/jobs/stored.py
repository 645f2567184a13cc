"""The form of stored data: its schema number, and JSON that another version of Stoker may have written."""

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any, TypeVar

from worker.jobs.errors import Unsupported

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = ["ADAPTER_SCHEMA", "SCHEMA", "check_schema", "from_json", "from_values", "to_json"]

#: The number of the form in which job records, cards and prompt templates are stored: MAJOR or MAJOR.MINOR.
#: Readers ignore unknown fields, so a new optional field needs no new number. A new MAJOR number is needed if
#: an older version would misread the data. That includes a changed default, because defaults are not stored.
SCHEMA = "1"

#: The number of jobs that a LoRA adapter runs. An older version would run them with the model itself.
ADAPTER_SCHEMA = "2"

T = TypeVar("T", bound="DataclassInstance")


def check_schema(schema: object, newest: str = SCHEMA) -> None:
    """Raise `Unsupported` if data with this schema number needs a newer version of Stoker.

    `newest` is the highest number of such data that this version reads.
    """
    major = str(schema).partition(".")[0]
    if not (major.isdecimal() and int(major) <= int(newest)):
        raise Unsupported(f"it was stored with schema {schema}, and this version reads {newest}")


def to_json(value: "DataclassInstance") -> str:
    """Return the dataclass as a JSON object with its schema number, for `from_json`."""
    return json.dumps({"schema": SCHEMA, **asdict(value)}, ensure_ascii=False)


def from_json(cls: type[T], text: str) -> T:
    """Return the dataclass that `to_json` of some version wrote. Unknown fields are ignored.

    Data without a schema number has the number 1. Raises `Unsupported` if this version cannot read the data.
    """
    try:
        values = dict(json.loads(text))
        check_schema(values.get("schema", 1))
        return from_values(cls, values)
    except (TypeError, ValueError) as error:
        raise Unsupported(f"it is not a {cls.__name__}: {error}") from error


def from_values(cls: type[T], values: Mapping[str, Any]) -> T:
    """Return the dataclass with those of the values that are its fields. Raises TypeError if one lacks."""
    return cls(**{each.name: values[each.name] for each in fields(cls) if each.name in values})
