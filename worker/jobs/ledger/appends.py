"""Appends: the events and record fields that a worker adds to jobs, and the replies to them."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, Self

from worker.jobs.events import Event
from worker.jobs.records import rfc3339

__all__ = [
    "NO_INCREMENTS",
    "Append",
    "Appended",
    "Behind",
    "LedgerReply",
    "Reply",
    "json_fields",
    "script_args",
]

NO_INCREMENTS: Mapping[str, int] = MappingProxyType({})

#: The reply to an append. "ok": go on. "cancel": the client has asked to cancel the job, so end it. "ended":
#: the events have ended the job. "stale": nothing was logged, because the job has ended or another attempt
#: owns it.
Reply = Literal["ok", "cancel", "ended", "stale"]


@dataclass(frozen=True, slots=True)
class Behind:
    """The reply to an append of an attempt of which Redis has lost a part, in a failover. Nothing was logged.

    `logged` is the number of the last event in the job's log. None means that the attempt's claim is lost,
    too: the job waits again.
    """

    logged: int | None


LedgerReply = Reply | Behind


@dataclass(frozen=True, slots=True)
class Appended:
    """The outcome of appends: a reply for each.

    `dispatched` are jobs, by queue, to which the slots of ended jobs go. Each has a Celery message now.
    """

    replies: Sequence[LedgerReply]
    dispatched: Sequence[tuple[str, Sequence[str]]]

    @classmethod
    def from_script(cls, replies: Sequence[Any]) -> Self:
        """Return the outcome in the replies of `append.lua`, one for each append."""
        ended = [reply for reply in replies if isinstance(reply, list)]
        return cls(
            [_reply(reply) for reply in replies], [(queue, job_ids) for queue, *job_ids in ended if job_ids]
        )


class Append(NamedTuple):  # a tuple, because one is made for each token event
    """A batch of events for one job's log, sent by the attempt that owns the job.

    `claim` is the name of the attempt's claim. `first` is the number of the first event, and `time` the time
    of all events, in seconds since the epoch. `fields` of the record (progress, usage, result, error) change
    in the same step, and so do the metrics that `increments` names. Without events there are no increments,
    because only the numbers of events tell a repeated append from a new one.
    """

    job_id: str
    claim: str
    attempt: int
    first: int
    time: float
    events: Sequence[Event]
    fields: dict[str, Any]
    increments: Mapping[str, int] = NO_INCREMENTS

    @property
    def terminal(self) -> bool:
        """True if the append ends the job."""
        return bool(self.events) and self.events[-1].terminal

    def script_args(self, metrics: dict[str, int]) -> list[Any]:
        """Return the arguments that `append.lua` takes for this job.

        `metrics` are the fields of all appends in the call with their numbers, from 1. New ones are added.
        """
        args = [self.job_id, self.claim, self.attempt, self.first, rfc3339(self.time), self.time]
        args += len(self.fields), len(self.events), self._numbered(metrics)
        args += chain.from_iterable(self.fields.items())
        for event in self.events:
            args += event.type, event.fields(), event.resume
        return args

    def _numbered(self, metrics: dict[str, int]) -> str:
        """Return the increments as the numbers of their fields, each with its amount."""
        return " ".join(
            [
                f"{metrics.setdefault(field, len(metrics) + 1)} {amount}"
                for field, amount in self.increments.items()
            ]
        )


def script_args(appends: Iterable[Append]) -> tuple[Any, ...]:
    """Return the arguments that `append.lua` takes for these appends, behind the common ones."""
    metrics: dict[str, int] = {}
    jobs = [append.script_args(metrics) for append in appends]
    return (len(metrics), *metrics, *chain.from_iterable(jobs))


def _reply(reply: Any) -> LedgerReply:
    if isinstance(reply, list):
        return "ended"
    if isinstance(reply, int):
        return Behind(reply)
    return Behind(None) if reply == "unclaimed" else reply


def json_fields(**values: Any) -> dict[str, Any]:
    """Return the values as fields of a record: dicts become JSON, and None is left out."""
    return {
        name: json.dumps(value) if isinstance(value, dict) else value
        for name, value in values.items()
        if value is not None
    }
