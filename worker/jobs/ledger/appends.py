"""Appends: the events and record fields that a worker adds to jobs, and the replies to them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal, NamedTuple

from worker.jobs.events import Event

__all__ = ["Append", "Appended", "Reply", "json_fields"]

#: The reply to an append. "ok": go on. "cancel": the client has asked to cancel the job, so end it. "ended":
#: the events have ended the job. "stale": nothing was logged, because the job has ended or another attempt
#: owns it.
Reply = Literal["ok", "cancel", "ended", "stale"]


@dataclass(frozen=True, slots=True)
class Appended:
    """The outcome of appends: a reply for each.

    `dispatched` are jobs, by queue, to which the slots of ended jobs go. The caller must send their messages.
    """

    replies: Sequence[Reply]
    dispatched: Sequence[tuple[str, Sequence[str]]]


class Append(NamedTuple):  # a tuple, because one is made for each token event
    """A batch of events for one job's log, sent by the attempt that owns the job.

    `first` is the number of the first event. `fields` of the record (progress, usage, result, error) change
    in the same step.
    """

    job_id: str
    attempt: int
    first: int
    events: Sequence[Event]
    fields: dict[str, Any]

    def script_args(self) -> list[Any]:
        """Return the arguments that `append.lua` takes for this job."""
        args = [self.job_id, self.attempt, self.first, len(self.fields), len(self.events)]
        args += chain.from_iterable(self.fields.items())
        for event in self.events:
            args += event.type, event.fields(), event.resume
        return args


def json_fields(**values: Any) -> dict[str, Any]:
    """Return the values as fields of a record: dicts become JSON, and None is left out."""
    return {
        name: json.dumps(value) if isinstance(value, dict) else value
        for name, value in values.items()
        if value is not None
    }
