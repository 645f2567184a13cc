"""Error responses: the table from error classes to HTTP statuses, and problem documents (RFC 9457)."""

import logging
from collections.abc import Sequence
from typing import Literal, Protocol

from flask import Flask, Response, current_app, request
from gunicorn.http.errors import ParseException
from pydantic import BaseModel
from redis.exceptions import RedisError
from werkzeug.exceptions import HTTPException, NotFound
from werkzeug.http import HTTP_STATUS_CODES

from worker.jobs.connection.refusals import Refusal, is_denied
from worker.jobs.errors import (
    BatchNotFound,
    ClientTooSlow,
    DiskFull,
    FileNotKept,
    Forbidden,
    InvalidInput,
    JobConflict,
    JobNotFound,
    KindNotServed,
    MediaUnavailable,
    ModelNotFound,
    NotReady,
    QueueFull,
    QueueNotFound,
    StokerError,
    TooLarge,
    TooManyStreams,
    Unauthorized,
    Unsupported,
    WorkerNotFound,
)

__all__ = [
    "PROBLEM_JSON",
    "RETRY_AFTER_S",
    "STATUS",
    "TERMINAL_STATUS",
    "ErrorRenderer",
    "Problem",
    "problem",
    "register",
]

PROBLEM_JSON = "application/problem+json"

logger = logging.getLogger(__name__)

#: Seconds after which a client may retry when the service is not ready.
RETRY_AFTER_S = 5

#: HTTP status of each error class. The first class that matches counts, so subclasses precede parents.
STATUS: dict[type[StokerError], int] = {
    TooLarge: 413,
    ModelNotFound: 404,
    InvalidInput: 422,
    Unauthorized: 401,
    Forbidden: 403,
    ClientTooSlow: 408,
    KindNotServed: 404,
    JobNotFound: 404,
    QueueNotFound: 404,
    FileNotKept: 404,
    BatchNotFound: 404,
    WorkerNotFound: 404,
    JobConflict: 409,
    QueueFull: 429,
    TooManyStreams: 429,
    NotReady: 503,
    MediaUnavailable: 503,
    Unsupported: 503,
    DiskFull: 507,
}

#: HTTP status for a request that waited for a job, by the code of the failed or canceled job. Codes that are
#: not listed mean 500.
TERMINAL_STATUS = {
    "expired": 503,
    "unsupported": 503,
    "timeout": 504,
    "canceled": 409,
    "invalid_structured_outputs": 400,
}


class Problem(BaseModel):
    """A problem document (RFC 9457): why a request failed.

    `code` is stable. `field` names the part of the request that is wrong.
    """

    type: Literal["about:blank"] = "about:blank"
    title: str
    status: int
    detail: str
    code: str
    field: str | None = None


class ErrorRenderer(Protocol):
    """Another form of error documents, for the clients of some paths. A module can implement it."""

    def handles(self, path: str) -> bool:
        """Return whether the clients of this path expect this form."""

    def response(self, status: int, code: str, message: str, field: str | None = None) -> Response:
        """Return the error in this form."""


def register(app: Flask, renderers: Sequence[ErrorRenderer] = ()) -> None:
    """Answer every error of the app with a document.

    It is the document of the first renderer that handles the request's path, else a problem document.
    """
    app.extensions["stoker.error_renderers"] = renderers
    app.register_error_handler(StokerError, _stoker_error)
    app.register_error_handler(RedisError, _redis_error)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(ParseException, _bad_body)
    app.register_error_handler(Exception, _unexpected)


def problem(status: int, code: str, detail: str, field: str | None = None) -> Response:
    """Return an error response in the form that the clients of the request's path expect.

    `code` is the stable name of the error, `field` the part of the request at fault.
    """
    renderers: Sequence[ErrorRenderer] = current_app.extensions["stoker.error_renderers"]
    render = next((each.response for each in renderers if each.handles(request.path)), _document)
    response = render(status, code, detail, field)
    if status == STATUS[NotReady]:
        response.headers["Retry-After"] = str(RETRY_AFTER_S)
    return response


def _document(status: int, code: str, detail: str, field: str | None = None) -> Response:
    document = Problem(
        title=HTTP_STATUS_CODES[status], status=status, detail=detail, code=code, field=field
    ).model_dump_json(exclude_none=True)
    return Response(document, status, content_type=PROBLEM_JSON)


def _stoker_error(error: StokerError) -> Response:
    status = next((status for kind, status in STATUS.items() if isinstance(error, kind)), None)
    if status is None:
        return _unexpected(error)
    response = problem(status, error.code, str(error), getattr(error, "field", None))
    if isinstance(error, QueueFull | TooManyStreams):
        response.headers["Retry-After"] = str(error.retry_after_s)
    if isinstance(error, Unauthorized):
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def _redis_error(error: RedisError) -> Response:
    logger.error("Redis: %s", error)
    trouble = "refuses this server's login" if is_denied(error) else "does not answer"
    if isinstance(error, Refusal):
        trouble = f"refuses commands ({error.code})"
    return problem(STATUS[NotReady], NotReady.code, f"The job store {trouble}; try again.")


def _http_error(error: HTTPException) -> Response:
    status, detail = error.code or 500, error.description or error.name
    if isinstance(error, NotFound) and error is request.routing_exception:
        detail = f"There is no route {request.method} {request.path}."
    response = problem(status, error.name.lower().replace(" ", "_"), detail)
    for name, value in error.get_headers():
        if name not in ("Content-Type", "Content-Length"):
            response.headers[name] = value  # such as Allow of a 405 and Content-Range of a 416
    return response


def _bad_body(error: ParseException) -> Response:
    return problem(400, "bad_request", f"The body cannot be read: {error}.")


def _unexpected(error: Exception) -> Response:
    logger.error("unexpected error", exc_info=error)
    return problem(500, StokerError.code, "Something went wrong here; the log has the details.")
