"""Bodies: JSON out of requests."""

from typing import Any

from flask import request
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge

from worker.jobs.errors import TooLarge

__all__ = ["json_body"]

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
