"""The timeline of a job, computed from its events."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from webapi.client.job_event import JobEvent
from worker.jobs.events import TERMINAL, Progress, Queued, Reasoning, Started, Token, ToolCall

__all__ = ["Timeline"]


@dataclass(slots=True)
class Timeline:
    """The times at which a job was queued, started, gave its first result and ended.

    They are the times in its events, in seconds since the epoch, and 0 until there is such an event.
    """

    queued: float = 0.0
    started: float = 0.0
    first: float = 0.0
    ended: float = 0.0
    #: Tokens or frames so far.
    done: int = 0

    def watch(self, events: Iterable[JobEvent]) -> Iterator[JobEvent]:
        """Yield the same events, and add each of them first."""
        for event in events:
            self.add(event)
            yield event

    def add(self, event: JobEvent) -> None:
        """Record the time of the job's next event, and its progress."""
        at = datetime.fromisoformat(event["time"]).timestamp()
        match event.body:
            case Queued():
                self.queued = at
            case Started():
                self.started = self.started or at
            case Token(count=count) | Reasoning(count=count) | ToolCall(count=count):
                self.first, self.done = self.first or at, self.done + count
            case Progress(done=done):
                self.first, self.done = self.first or at, done
        if event["type"] in TERMINAL:
            self.ended = at

    @property
    def rate(self) -> float:
        """Tokens or frames per second, from the job's start to its end."""
        return self.done / max(self.ended - self.started, 1e-3)

    def summary(self, unit: str) -> str:
        """Return one line with the count, the rate, the time to the first result, in the queue and in all.

        `unit` is `tokens` or `frames`.
        """
        return (
            f"{self.done} {unit}, {self.rate:.1f} {unit}/s, first after {self.first - self.queued:.2f} s, "
            f"{self.started - self.queued:.2f} s queued, {self.ended - self.queued:.2f} s in all"
        )
