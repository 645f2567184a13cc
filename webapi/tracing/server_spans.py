"""The spans of HTTP requests to `/v1/…`.

They are made here because OpenTelemetry's own middleware records the query, which can contain a stream token,
and ends the span of a stream before its first event.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from flask import Flask, request
from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE
from opentelemetry.semconv.attributes.http_attributes import (
    HTTP_REQUEST_METHOD,
    HTTP_RESPONSE_STATUS_CODE,
    HTTP_ROUTE,
)
from opentelemetry.semconv.attributes.url_attributes import URL_PATH, URL_SCHEME
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    set_span_in_context,
)
from werkzeug.wsgi import ClosingIterator

from webapi.tracing.context import span_context, trace_context
from webapi.tracing.request_trace import SPAN, client_trace

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = ["ServerSpans"]

#: The paths of the API. Probes and the page have no spans.
PREFIX = "/v1/"
#: The key of the span in the environment of a request.
_KEY = "stoker.server_span"
_METHODS = {"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY"}


class ServerSpans:
    """A WSGI middleware that makes a span of each request, up to the end of its answer.

    The span is in the trace of the client's `traceparent`, or begins a trace.
    """

    def __init__(self, app: "WSGIApplication", tracer: Tracer) -> None:
        self._app = app
        self._tracer = tracer

    @classmethod
    def register(cls, app: Flask, tracer: Tracer) -> None:
        """Make spans of the app's requests."""
        app.wsgi_app = cls(app.wsgi_app, tracer)  # type: ignore[method-assign]
        app.before_request(_name_route)

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Serve the request."""
        if not environ.get("PATH_INFO", "").startswith(PREFIX):
            return self._app(environ, start_response)
        span = self._begin(environ)

        def start(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
            _note_status(span, int(status.partition(" ")[0]))
            return start_response(status, headers, *exc_info)

        try:
            answer = self._app(environ, start)
        except BaseException as error:
            span.set_status(Status(StatusCode.ERROR))
            span.set_attribute(ERROR_TYPE, type(error).__qualname__)
            span.end()
            raise
        return ClosingIterator(answer, span.end)

    def _begin(self, environ: "WSGIEnvironment") -> Span:
        given = client_trace(environ)
        parent = set_span_in_context(NonRecordingSpan(span_context(given, is_remote=True))) if given else None
        method = environ.get("REQUEST_METHOD", "")
        attributes = {
            HTTP_REQUEST_METHOD: method if method in _METHODS else "_OTHER",
            URL_PATH: environ["PATH_INFO"],
            URL_SCHEME: environ.get("wsgi.url_scheme", "http"),
        }
        name = method if method in _METHODS else "HTTP"
        span = self._tracer.start_span(name, parent, SpanKind.SERVER, attributes)
        environ[_KEY] = span
        if (context := span.get_span_context()).is_valid:  # it is not if OTEL_SDK_DISABLED is true
            environ[SPAN] = trace_context(context)
        return span


def _name_route() -> None:
    """Give the span of the request the name of its route."""
    span: Span | None = request.environ.get(_KEY)
    if span and request.url_rule:
        span.update_name(f"{request.method} {request.url_rule.rule}")
        span.set_attribute(HTTP_ROUTE, request.url_rule.rule)


def _note_status(span: Span, status: int) -> None:
    span.set_attribute(HTTP_RESPONSE_STATUS_CODE, status)
    if status >= 500:
        span.set_attribute(ERROR_TYPE, str(status))
        span.set_status(Status(StatusCode.ERROR))
