"""The id of each request, which its answer and the log lines about it have in common."""

import logging
import re
import threading
import uuid
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from flask import Flask

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = ["HEADER", "LOG_FORMAT", "RequestIds", "begin", "current", "register"]

HEADER = "X-Request-Id"

#: The format of log lines. Lines that belong to no request have `-` in place of the id.
LOG_FORMAT = "%(asctime)s %(levelname)s [%(request_id)s] %(name)s: %(message)s"

#: Clients and proxies may choose an id of this form. It goes into log lines, so it has no spaces.
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@/+=-]{0,127}")

#: The id of the request that this thread serves: under gevent, this greenlet. Threads that a request starts
#: serve others too, so they must not inherit it, as they would inherit a context variable.
_thread = threading.local()


def current() -> str:
    """Return the id of the request that this thread serves, or an empty string."""
    return str(getattr(_thread, "request_id", ""))


def begin(given: str = "") -> str:
    """Begin a request of this thread, and return its id: `given` if it has the form of one, or a new one."""
    _thread.request_id = given if _ID.fullmatch(given) else uuid.uuid4().hex
    return current()


def register(app: Flask) -> None:
    """Give each request of the app an id, and all log lines of this process the attribute `request_id`."""
    app.wsgi_app = RequestIds(app.wsgi_app)  # type: ignore[method-assign]
    logging.setLogRecordFactory(_log_record)
    server_log = logging.getLogger("gunicorn.error")  # it has a format of its own
    server_log.removeFilter(_append_id)
    server_log.addFilter(_append_id)


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


def _log_record(*args: Any, **kwargs: Any) -> logging.LogRecord:
    record = logging.LogRecord(*args, **kwargs)
    record.__dict__["request_id"] = current() or "-"
    return record


def _append_id(record: logging.LogRecord) -> bool:
    if request_id := current():
        record.msg = f"{record.msg} (request {request_id})"
    return True
