"""The id of each request, which its answer and the log lines about it have in common."""

import re
import uuid
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from flask import Flask

from worker.jobs.logs import context

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = ["HEADER", "RequestIds", "begin", "current", "register"]

HEADER = "X-Request-Id"

#: Clients and proxies may choose an id of this form. It goes into log lines, so it has no spaces.
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@/+=-]{0,127}")


def current() -> str:
    """Return the id of the request that this thread serves, or an empty string."""
    return str(context.current().get("request_id", ""))


def begin(given: str = "") -> str:
    """Begin a request of this thread, and return its id: `given` if it has the form of one, or a new one."""
    request_id = given if _ID.fullmatch(given) else uuid.uuid4().hex
    context.begin(request_id=request_id)
    return request_id


def register(app: Flask) -> None:
    """Give each request of the app an id."""
    app.wsgi_app = RequestIds(app.wsgi_app)  # type: ignore[method-assign]


class RequestIds:
    """A WSGI middleware that sends the header `X-Request-Id`: the client's own id, or a new one."""

    def __init__(self, app: "WSGIApplication") -> None:
        self._app = app

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Serve the request. Its id stays that of the thread until the next request."""
        request_id = begin(environ.get("HTTP_X_REQUEST_ID", ""))

        def start(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
            return start_response(status, [*headers, (HEADER, request_id)], *exc_info)

        return self._app(environ, start)
