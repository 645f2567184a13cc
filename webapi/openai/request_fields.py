"""The fields of a chat request before their validation: texts as numbers, and fields that are refused."""

import re
from collections.abc import Collection
from typing import Any, get_args, get_origin

from pydantic.fields import FieldInfo

from webapi.openai.schema import ChatCompletionRequest
from webapi.submission.neutral_fields import UNSUPPORTED, without_neutral
from worker.jobs.errors import InvalidInput
from worker.jobs.specs import ChatJob

__all__ = ["NUMBERS", "read_fields"]


def _is_number(field: FieldInfo) -> bool:
    kinds = {field.annotation, *get_args(field.annotation)}
    if any(get_origin(kind) in (list, dict) for kind in kinds):
        return False
    return bool({int, float} & (kinds | {inner for kind in kinds for inner in get_args(kind)}))


#: The supported fields whose values are numbers.
NUMBERS = frozenset(
    name
    for model in (ChatJob, ChatCompletionRequest)
    for name, field in model.model_fields.items()
    if _is_number(field)
)
#: The refused fields with numbers.
_OTHER_NUMBERS = {
    name for name, neutral in UNSUPPORTED.items() if {type(value) for value in neutral} == {int}
}


def read_fields(body: Any, supported: Collection[str] = ()) -> dict[str, Any]:
    """Return the fields of a request's body. Null means the same as no value, and the text "0.7" the number.

    Fields in `supported` are not refused, though chats do not support them. Raises `InvalidInput` for the
    first other field that asks for an unsupported feature.
    """
    if not isinstance(body, dict):
        raise InvalidInput("body", "must be a JSON object")
    numbers = NUMBERS | _OTHER_NUMBERS
    given = {
        name: _number(value) if name in numbers else value
        for name, value in body.items()
        if value is not None
    }
    others = {name: given.pop(name) for name in supported if name in given}
    return without_neutral(given) | others


def _number(value: Any) -> Any:
    """Return the number that a text stands for. Other values stay as they are."""
    if not isinstance(value, str) or not re.fullmatch(
        r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", value, re.ASCII
    ):
        return value
    if re.fullmatch(r"\s*[+-]?\d{1,100}\s*", value, re.ASCII):
        return int(value)
    number = float(value)
    return int(number) if number.is_integer() else number
