"""The facts of an event, which a log line carries beside its message."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from worker.jobs.trace_context import TraceContext

__all__ = ["Facts", "facts", "facts_of", "of_job"]

_ATTRIBUTE = "stoker_facts"


class Attempt(Protocol):
    """The known facts of an attempt at a job: a part of `worker.jobs.records.Record`."""

    @property
    def id(self) -> str:
        """The id of the job."""

    @property
    def attempt(self) -> int:
        """The number of the attempt; 0 before the first."""

    @property
    def worker(self) -> str | None:
        """The worker that has made the claim."""

    @property
    def trace(self) -> str | None:
        """The header `traceparent` of the request that submitted the job."""


@dataclass(frozen=True, slots=True)
class Facts:
    """A message that is an object. Text logs show it as JSON. JSON logs have its items as fields."""

    name: str
    items: Mapping[str, object]

    def __str__(self) -> str:
        return json.dumps(self.items)


def facts(**items: object) -> dict[str, Any]:
    """Return the argument `extra` of a log call whose event has these facts. None is left out."""
    return {_ATTRIBUTE: {name: value for name, value in items.items() if value is not None}}


def facts_of(record: logging.LogRecord) -> Mapping[str, object]:
    """Return the facts of the event."""
    found: Mapping[str, object] = getattr(record, _ATTRIBUTE, {})
    return found


def of_job(attempt: Attempt) -> dict[str, object]:
    """Return the facts that each line about a job has: the job, the attempt, the worker and the trace."""
    trace = TraceContext.parse(attempt.trace)
    known = {"job": attempt.id, "attempt": attempt.attempt or None, "worker": attempt.worker}
    return known | {"trace": trace and trace.trace_id}
