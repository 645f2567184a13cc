"""Appends: what a worker adds to a job's log and record, and what it is told."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal, NamedTuple

from worker.jobs.events import Event

__all__ = ["Append", "Ended", "Reply", "json_fields"]


@dataclass(frozen=True, slots=True)
class Ended:
    """What an append is told that has ended its job: whom to hint at, for whom a slot is free now."""

    dispatched: Sequence[str]


#: What other appends are told: go on, end the job because its client asked for it, or another attempt has it.
Reply = Literal["ok", "cancel", "stale"] | Ended


class Append(NamedTuple):  # one is made for each token event
    """Events for one job's log, the first of them number `first`, by the attempt that owns the job.

    `fields` of the record change with them: progress, usage, result, error.
    """

    job_id: str
    attempt: int
    first: int
    events: Sequence[Event]
    fields: dict[str, Any]

    def flat(self) -> list[Any]:
        """As the script takes it."""
        flat = [self.job_id, self.attempt, self.first, len(self.fields), len(self.events)]
        flat += chain.from_iterable(self.fields.items())
        for event in self.events:
            flat += event.type, event.fields(), event.resume()
        return flat


def json_fields(**values: Any) -> dict[str, Any]:
    """Record fields as the ledger stores them: objects as JSON, None left out."""
    return {
        name: json.dumps(value) if isinstance(value, dict) else value
        for name, value in values.items()
        if value is not None
    }
