"""The spans of an ended job, made from its record and its log.

They do not depend on the processes that ran the job, so an attempt whose worker was killed has spans, too.
Their ids follow from the id of the job, so a repeated export makes no other spans.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode

from webapi.tracing import names
from webapi.tracing.attempts import Attempt, attempts_in, nanoseconds
from webapi.tracing.context import span_context
from webapi.tracing.run_attributes import run_attributes
from worker.jobs.events import LoggedEvent
from worker.jobs.records import Record, rfc3339
from worker.jobs.trace_context import TraceContext, derived_id

__all__ = ["SCOPE", "job_spans"]

SCOPE = InstrumentationScope("stoker")
#: Reasons for which a job is requeued although nothing is wrong.
_ORDERLY = ("drain",)


def job_spans(record: Record, log: Sequence[LoggedEvent], resource: Resource) -> Sequence[ReadableSpan]:
    """Return the spans of the job: the submit, and for each attempt the attempt and the run of the model."""
    return list(_JobSpans(record, resource).spans(attempts_in(log)))


class _JobSpans:
    def __init__(self, record: Record, resource: Resource) -> None:
        self._record = record
        self._resource = resource
        self._trace = TraceContext.parse(record.trace, record.tracestate) or TraceContext.of_job(record.id)

    def spans(self, attempts: Sequence[Attempt]) -> Iterator[ReadableSpan]:
        yield self._send(attempts)
        before: SpanContext | None = None
        for attempt in attempts:
            process = self._process(attempt, before)
            yield process
            yield self._run(attempt, last=attempt is attempts[-1])
            before = process.context

    def _send(self, attempts: Sequence[Attempt]) -> ReadableSpan:
        """Return the span of the submit. If the job ended while it waited, it has the error."""
        record, at = self._record, nanoseconds(rfc3339(self._record.created_at))
        waited = not attempts or attempts[-1].outcome == "requeued"
        return self._span(
            f"send {record.queue}",
            self._context("send"),
            None if self._trace.span_id == self._id("send") else span_context(self._trace, is_remote=True),
            SpanKind.PRODUCER,
            (at, at),
            self._messaging("send") | {names.STOKER_STATE: record.state},
            error=(record.error or {}).get("code", "") if waited else "",
            link=TraceContext.parse(record.trace_link),
        )

    def _process(self, attempt: Attempt, before: SpanContext | None) -> ReadableSpan:
        attributes = self._messaging("process") | {
            names.STOKER_ATTEMPT: attempt.number,
            names.STOKER_WORKER: attempt.worker,
            names.STOKER_DEVICE: attempt.device,
            names.STOKER_OUTCOME: attempt.outcome,
        }
        if attempt.reason:
            attributes[names.STOKER_REQUEUE_REASON] = attempt.reason
        return self._span(
            f"process {self._record.queue}",
            self._context("process", attempt.number),
            self._context("send"),
            SpanKind.CONSUMER,
            self._times(attempt),
            attributes,
            error=_error(attempt),
            link=before,
        )

    def _run(self, attempt: Attempt, last: bool) -> ReadableSpan:
        """Return the span of the model's run, up to its last event: a lost worker has done nothing since."""
        name, attributes = run_attributes(self._record, attempt, last)
        return self._span(
            name,
            self._context("run", attempt.number),
            self._context("process", attempt.number),
            SpanKind.INTERNAL,
            (attempt.started_at, max(attempt.started_at, nanoseconds(attempt.last_time))),
            attributes,
            error=_error(attempt),
        )

    def _span(
        self,
        name: str,
        context: SpanContext,
        parent: SpanContext | None,
        kind: SpanKind,
        times: tuple[int, int],
        attributes: Mapping[str, Any],
        error: str = "",
        link: SpanContext | TraceContext | None = None,
    ) -> ReadableSpan:
        linked = span_context(link, is_remote=True) if isinstance(link, TraceContext) else link
        return ReadableSpan(
            name,
            context,
            parent,
            self._resource,
            dict(attributes) | ({ERROR_TYPE: error} if error else {}),
            links=[Link(linked)] if linked else [],
            kind=kind,
            status=Status(StatusCode.ERROR) if error else Status(),
            start_time=times[0],
            end_time=times[1],
            instrumentation_scope=SCOPE,
        )

    def _id(self, span: str, *number: int) -> str:
        return derived_id(self._record.id, span, *number, digits=16)

    def _context(self, span: str, *number: int) -> SpanContext:
        trace = self._trace
        return span_context(TraceContext(trace.trace_id, self._id(span, *number), state=trace.state))

    def _times(self, attempt: Attempt) -> tuple[int, int]:
        """Return the start and the end. A log that a failover has cut has no end of an attempt."""
        ended_at = attempt.ended_at or nanoseconds(rfc3339(self._record.finished_at or 0.0))
        return attempt.started_at, max(attempt.started_at, ended_at)

    def _messaging(self, operation: str) -> dict[str, Any]:
        return {
            names.MESSAGING_SYSTEM: "stoker",
            names.MESSAGING_OPERATION_NAME: operation,
            names.MESSAGING_OPERATION_TYPE: operation,
            names.MESSAGING_DESTINATION_NAME: self._record.queue,
            names.MESSAGING_MESSAGE_ID: self._record.id,
        }


def _error(attempt: Attempt) -> str:
    """Return the type of the attempt's error; empty if it has none."""
    return attempt.error or (attempt.reason if attempt.reason not in _ORDERLY else "")
