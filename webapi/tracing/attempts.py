"""The attempts at a job, as its log tells them. Times are nanoseconds since the epoch, as in spans."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from worker.jobs.events import ANSWER, TERMINAL, LoggedEvent

__all__ = ["Attempt", "attempts_in", "nanoseconds"]

_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00Z")


@dataclass(slots=True)
class Attempt:
    """An attempt. `outcome` is the type of the event that ended it: `requeued` or a terminal one.

    `reason` says why a job was requeued, and `error` is the code of its failure. `last_time` is the time of
    the last event of the attempt itself, as in the log. The other numbers are the sums over its batches.
    """

    number: int
    worker: str
    device: str
    started_at: int
    last_time: str
    first_output_at: int | None = None
    ended_at: int | None = None
    outcome: str = ""
    reason: str = ""
    error: str = ""
    frames: int = 0
    padded: int = 0
    batches: int = 0

    def add(self, event: LoggedEvent) -> None:
        """Note an event of the attempt."""
        data = event.data
        if event.type != "requeued":
            self.last_time = data["time"]
        if event.type == "requeued" or event.type in TERMINAL:
            self.ended_at, self.outcome = nanoseconds(data["time"]), event.type
            self.reason = str(data.get("reason", ""))
            self.error = str(data.get("code", ""))
        elif event.type in ANSWER or event.type == "batch":
            self.first_output_at = self.first_output_at or nanoseconds(data["time"])
        if event.type == "batch":
            self.frames += int(data["frames"])
            self.padded += int(data["padded"])
            self.batches += 1


def attempts_in(log: Iterable[LoggedEvent]) -> Sequence[Attempt]:
    """Return the attempts that the log of an ended job tells, in their order."""
    attempts: list[Attempt] = []
    for event in log:
        data = event.data
        if event.type == "started":
            place = str(data["worker"]), str(data["device"])
            begun = nanoseconds(data["time"]), data["time"]
            attempts.append(Attempt(int(data["attempt"]), *place, *begun))
        elif attempts and attempts[-1].ended_at is None:
            attempts[-1].add(event)
    return attempts


def nanoseconds(time: str) -> int:
    """Return the time of an event."""
    return (datetime.fromisoformat(time) - _EPOCH) // timedelta(microseconds=1) * 1000
