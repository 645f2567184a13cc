"""The trace of the current request, in which its jobs take their place (W3C Trace Context)."""

from collections.abc import Mapping
from typing import Any, cast

from flask import has_request_context, request

from webapi.description.parts import parameter
from worker.jobs.settings import Settings
from worker.jobs.trace_context import JobTrace, TraceContext

__all__ = ["SPAN", "TRACE_HEADERS", "client_trace", "job_trace", "request_trace"]

#: The descriptions of both headers.
TRACE_HEADERS = (
    parameter(
        "traceparent",
        "The client's span, as in W3C Trace Context: the job belongs to its trace. "
        "A value of another form is ignored.",
    ),
    parameter("tracestate", "What tracing systems add to `traceparent`."),
)
#: The key of the request's own span in its WSGI environment, if spans are made.
SPAN = "stoker.span"


def client_trace(environ: Mapping[str, Any]) -> TraceContext | None:
    """Return the span that the headers of a request name."""
    return TraceContext.parse(environ.get("HTTP_TRACEPARENT"), environ.get("HTTP_TRACESTATE"))


def request_trace() -> TraceContext | None:
    """Return the span of the current request, or that of its client; None without a request or a span."""
    if not has_request_context():
        return None
    own = cast("TraceContext | None", request.environ.get(SPAN))
    return own or client_trace(request.environ)


def job_trace(settings: Settings, job_id: str, cause: TraceContext | None = None) -> JobTrace | None:
    """Return the place in a trace of a job that is submitted now, if it has one.

    `cause` is a span of another trace that caused the job. If that is not recorded, a job without a request
    is not recorded either.
    """
    exports, parent = settings.otlp_endpoint is not None, request_trace()
    if parent is None and exports:
        parent = TraceContext.of_job(job_id, sampled=cause is None or cause.sampled)
    return JobTrace(parent, cause, exports and parent.sampled) if parent else None
