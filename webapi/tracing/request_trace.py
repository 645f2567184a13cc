"""The trace of the current request, in which its jobs take their place (W3C Trace Context)."""

from flask import has_request_context, request

from webapi.description.parts import parameter
from worker.jobs.trace_context import JobTrace, TraceContext

__all__ = ["TRACE_HEADERS", "job_trace", "request_trace"]

#: The descriptions of both headers.
TRACE_HEADERS = (
    parameter(
        "traceparent",
        "The client's span, as in W3C Trace Context: the job belongs to its trace. "
        "A value of another form is ignored.",
    ),
    parameter("tracestate", "What tracing systems add to `traceparent`."),
)


def request_trace() -> TraceContext | None:
    """Return the span that the headers of the current request name; None without a request or a span."""
    if not has_request_context():
        return None
    return TraceContext.parse(request.headers.get("traceparent"), request.headers.get("tracestate"))


def job_trace(link: TraceContext | None = None) -> JobTrace | None:
    """Return the place in a trace of a job that is submitted now, if it has one.

    `link` is a span of another trace that caused the job.
    """
    parent = request_trace()
    return JobTrace(parent, link) if parent else None
