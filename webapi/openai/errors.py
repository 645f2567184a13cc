"""OpenAI's error object: what its clients make their exceptions of."""

import re

from flask import Response
from pydantic import BaseModel

__all__ = ["ErrorDocument", "error_document", "response", "speaks"]

#: The paths, and all below them, whose errors are these.
PATHS = ("/v1/chat/completions", "/v1/models", "/v1/videos")

TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    429: "rate_limit_error",
}


class Error(BaseModel):
    """`param` is the part of the request at fault, `code` the stable name."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorDocument(BaseModel):
    """The body of every answer that is none, and the last line of a stream that broke."""

    error: Error


def speaks(path: str) -> bool:
    """Whether the path's clients expect this object."""
    return any(f"{path}/".startswith(f"{known}/") for known in PATHS)


def error_document(status: int, code: str, message: str, field: str | None = None) -> ErrorDocument:
    """The object; `messages.0.role` is `messages[0].role` there."""
    kind = TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    param = None if field is None else re.sub(r"\.(\d+)", r"[\1]", field)
    return ErrorDocument(error=Error(message=message, type=kind, param=param, code=code))


def response(status: int, code: str, message: str, field: str | None = None) -> Response:
    """The object as a response; what is not acceptable is a bad request (400) there."""
    status = 400 if status == 422 else status
    document = error_document(status, code, message, field)
    return Response(document.model_dump_json(), status, content_type="application/json")
