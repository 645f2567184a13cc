"""Parsers of request bodies and query strings."""

import json
from typing import Any, TypeVar

from flask import request
from pydantic import BaseModel, ValidationError
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge, UnsupportedMediaType

from webapi.http.json_structure import check_structure
from worker.jobs.errors import InvalidInput, TooLarge

__all__ = ["MAX_CHAT_BYTES", "json_body", "parse_json", "query"]

Model = TypeVar("Model", bound=BaseModel)

#: Largest JSON body. A conversation of that many bytes exceeds the context of any model by far.
MAX_CHAT_BYTES = 4 * 2**20
#: Most parameters of a query string.
MAX_PARAMETERS = 64


def json_body() -> Any:
    """Return the parsed JSON body of the current request.

    Raises `TooLarge` beyond `MAX_CHAT_BYTES`, `InvalidInput` if it has more values or keys than any valid
    body, `BadRequest` if it is not valid JSON, and `UnsupportedMediaType` if its content type is not JSON.
    """
    if not request.is_json:
        raise UnsupportedMediaType("The Content-Type must be application/json.")
    request.max_content_length = MAX_CHAT_BYTES
    try:
        return parse_json(request.get_data(cache=False))
    except RequestEntityTooLarge:
        raise TooLarge("body", f"the body may have at most {MAX_CHAT_BYTES} bytes") from None
    except ValueError:
        raise BadRequest("The body is not valid JSON.") from None


def parse_json(data: bytes) -> Any:
    """Return the value. Raises ValueError if it is not valid JSON, and `InvalidInput` as `json_body` does."""
    text = data.decode("utf-8-sig")
    check_structure(text)
    return json.loads(text, parse_float=_number)


def _number(text: str) -> float:
    """Return the number. JSON has one type of numbers, so 42.0 is an integer, as in JSON Schema."""
    number = float(text)
    return int(number) if number.is_integer() else number


def query(model: type[Model]) -> Model:
    """Return the query string of the current request as the model.

    Raises `InvalidInput` that names the first wrong parameter.
    """
    if len(request.args) > MAX_PARAMETERS:
        raise InvalidInput("query", f"may have at most {MAX_PARAMETERS} parameters")
    try:
        return model.model_validate(request.args.to_dict())
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidInput(str(first["loc"][0]), first["msg"]) from None
