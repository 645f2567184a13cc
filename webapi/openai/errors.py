"""The error object of OpenAI's API, from which its clients make their exceptions."""

import re

from flask import Response
from pydantic import BaseModel

__all__ = ["ErrorDocument", "error_document", "handles", "response"]

#: The paths under `/v1` of the native API. Errors on all others, also on those without a route, have OpenAI's
#: form.
NATIVE_PATHS = ("/v1/jobs", "/v1/queues", "/v1/workers")
#: The paths elsewhere whose errors have OpenAI's form, as in vLLM's server.
OTHER_PATHS = ("/tokenize", "/detokenize")

TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    429: "rate_limit_error",
}


class Error(BaseModel):
    """One error. `code` is its stable name; `param` names the request's faulty field, if there is one."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorDocument(BaseModel):
    """The body of every error response, and the last chunk of a stream that fails."""

    error: Error


def handles(path: str) -> bool:
    """Return True if the clients of this path expect OpenAI's error object."""
    native = any(f"{path}/".startswith(f"{known}/") for known in NATIVE_PATHS)
    return (path.startswith("/v1/") and not native) or path in OTHER_PATHS


def error_document(status: int, code: str, message: str, field: str | None = None) -> ErrorDocument:
    """Return the error object for an HTTP status, a stable code and a message.

    OpenAI's API writes list indexes in brackets: the field `messages.0.role` becomes `messages[0].role`.
    """
    kind = TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    param = None if field is None else re.sub(r"\.(\d+)", r"[\1]", field)
    return ErrorDocument(error=Error(message=message, type=kind, param=param, code=code))


def response(status: int, code: str, message: str, field: str | None = None) -> Response:
    """Return the error object as a response. OpenAI's API answers 400 where the native API answers 422."""
    status = 400 if status == 422 else status
    document = error_document(status, code, message, field)
    return Response(document.model_dump_json(), status, content_type="application/json")
