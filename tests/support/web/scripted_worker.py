"""A worker without an engine, whose steps a test scripts."""

import time
from dataclasses import dataclass, field
from typing import Any

from worker.jobs.events import Event
from worker.jobs.ledger.appends import Append, LedgerReply, json_fields
from worker.jobs.ledger.ledger import Ledger

__all__ = ["ScriptedWorker"]


@dataclass
class ScriptedWorker:
    """A worker's writes to the ledger, each at the test's command."""

    ledger: Ledger
    name: str = "scripted"
    #: Number of the last event of each claimed job.
    last_events: dict[str, int] = field(default_factory=dict)

    def claim(self, job_id: str) -> None:
        """Start the job's next attempt."""
        record = self.ledger.claim(job_id, self.name, "cpu")
        assert record is not None
        self.last_events[job_id] = record.events

    def append(self, job_id: str, *events: Event, **fields: Any) -> LedgerReply:
        """Append the events to the job's log and set these fields of its record."""
        record = self.ledger.get(job_id)
        first, claim = self.last_events[job_id] + 1, record.claim or ""
        append = Append(job_id, claim, record.attempt, first, time.time(), events, json_fields(**fields))
        (reply,) = self.ledger.append([append]).replies
        self.last_events[job_id] += len(events)
        return reply
