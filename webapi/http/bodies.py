"""Bodies and queries: what clients send, out of requests."""

from typing import Any, TypeVar

from flask import request
from pydantic import BaseModel, ValidationError
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge

from worker.jobs.errors import InvalidInput, TooLarge

__all__ = ["json_body", "query"]

Model = TypeVar("Model", bound=BaseModel)

#: A conversation is text: far beyond any model's context already.
MAX_CHAT_BYTES = 4 * 2**20


def json_body() -> Any:
    """The current request's body, parsed. Raises `TooLarge`, and `BadRequest` for what is no JSON."""
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
    """The current request's query. Raises `InvalidInput` naming the first parameter that is wrong."""
    try:
        return model.model_validate(request.args.to_dict())
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidInput(str(first["loc"][0]), first["msg"]) from None
