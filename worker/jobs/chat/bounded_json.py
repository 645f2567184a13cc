"""JSON values of requests whose size is limited."""

import json
from typing import Any

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

__all__ = ["bounded"]


def bounded(max_chars: int) -> AfterValidator:
    """Return a validator of JSON values that refuses those with more characters, NaN and lone surrogates.

    A stored spec cannot hold the latter two.
    """

    def check(value: Any) -> Any:
        try:
            size = len(json.dumps(value, ensure_ascii=False, allow_nan=False).encode())
        except ValueError:
            raise PydanticCustomError("json", "must be valid JSON, without NaN and lone surrogates") from None
        if size > max_chars:
            raise PydanticCustomError(
                "json_size", "may have at most {most} bytes as JSON", {"most": max_chars}
            )
        return value

    return AfterValidator(check)
