"""The place of a job in a trace, as W3C Trace Context describes it (https://www.w3.org/TR/trace-context/)."""

import hashlib
import re
from dataclasses import dataclass
from typing import Self

__all__ = ["JobTrace", "TraceContext", "derived_id"]

#: Version, trace id, id of the parent span, and flags. A version above 00 may have more behind them.
_TRACEPARENT = re.compile("(?!ff)([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_TRACESTATE = re.compile("[ -~\t]{1,512}")


def derived_id(*parts: object, digits: int) -> str:
    """Return an id of so many hexadecimal digits that depends on the parts only."""
    return hashlib.sha256(" ".join(map(str, parts)).encode()).hexdigest()[:digits]


@dataclass(frozen=True, slots=True)
class TraceContext:
    """A span, as the spans below it see it: its ids in hexadecimal digits, and whether it is recorded.

    `state` is the header `tracestate`, which the tracing systems that take part pass on unchanged.
    """

    trace_id: str
    span_id: str
    sampled: bool = True
    state: str = ""

    @classmethod
    def parse(cls, traceparent: str | None, tracestate: str | None = "") -> Self | None:
        """Return the span that the headers name, or None if they do not name one."""
        found = _TRACEPARENT.fullmatch(traceparent or "")
        if found is None:
            return None
        version, trace_id, span_id, flags, more = found.groups()
        if not int(trace_id, 16) or not int(span_id, 16) or (version == "00" and more):
            return None
        state = tracestate if _TRACESTATE.fullmatch(tracestate or "") else ""
        return cls(trace_id, span_id, bool(int(flags, 16) & 1), state or "")

    @classmethod
    def of_job(cls, job_id: str, sampled: bool = True) -> Self:
        """Return the first span of a job that no request has made: it begins a trace of its own."""
        return cls(derived_id("trace", job_id, digits=32), derived_id(job_id, "send", digits=16), sampled)

    @property
    def traceparent(self) -> str:
        """The value of the header `traceparent`."""
        return f"00-{self.trace_id}-{self.span_id}-0{int(self.sampled)}"


@dataclass(frozen=True, slots=True)
class JobTrace:
    """The part of a trace that is stored with a job.

    - `parent`: the span under which the job was submitted, or the job's own first span.
    - `link`: a span of another trace that caused the job, such as that of the request that made its batch.
    - `exported`: whether the API makes the spans of the job after its end.
    """

    parent: TraceContext
    link: TraceContext | None = None
    exported: bool = False
