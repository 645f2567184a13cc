"""Parsers of request bodies and query strings."""

from typing import Any, TypeVar

from flask import request
from pydantic import BaseModel, ValidationError
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge

from worker.jobs.errors import InvalidInput, TooLarge

__all__ = ["json_body", "query"]

Model = TypeVar("Model", bound=BaseModel)

#: Largest JSON body. A conversation of that many bytes exceeds the context of any model by far.
MAX_CHAT_BYTES = 4 * 2**20


def json_body() -> Any:
    """Return the parsed JSON body of the current request.

    Raises `TooLarge` beyond `MAX_CHAT_BYTES`, `BadRequest` if the body is not valid JSON, and
    `UnsupportedMediaType` if its content type is not JSON.
    """
    request.max_content_length = MAX_CHAT_BYTES
    try:
        return request.get_json()
    except RequestEntityTooLarge:
        raise TooLarge("body", f"the body may have at most {MAX_CHAT_BYTES} bytes") from None
    except BadRequest:
        raise BadRequest("The body is not valid JSON.") from None
    except RecursionError:
        raise BadRequest("The JSON is nested too deeply.") from None


def query(model: type[Model]) -> Model:
    """Return the query string of the current request as the model.

    Raises `InvalidInput` that names the first wrong parameter.
    """
    try:
        return model.model_validate(request.args.to_dict())
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidInput(str(first["loc"][0]), first["msg"]) from None
