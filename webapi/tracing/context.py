"""The contexts of spans in OpenTelemetry's form, and in the ledger's."""

from opentelemetry.trace import SpanContext, TraceFlags, TraceState, format_span_id, format_trace_id

from worker.jobs.trace_context import TraceContext

__all__ = ["span_context", "trace_context"]


def span_context(trace: TraceContext, is_remote: bool = False) -> SpanContext:
    """Return the context in OpenTelemetry's form. A `tracestate` that it does not take is left out."""
    flags = TraceFlags(TraceFlags.SAMPLED if trace.sampled else TraceFlags.DEFAULT)
    state = TraceState.from_header([trace.state] if trace.state else [])
    return SpanContext(int(trace.trace_id, 16), int(trace.span_id, 16), is_remote, flags, state)


def trace_context(span: SpanContext) -> TraceContext:
    """Return the context in the ledger's form."""
    return TraceContext(
        format_trace_id(span.trace_id),
        format_span_id(span.span_id),
        span.trace_flags.sampled,
        span.trace_state.to_header(),
    )
