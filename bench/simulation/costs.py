"""The costs of operations, as `--measure` has found them and stored them in `costs.json`."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

__all__ = ["COSTS_FILE", "Costs", "Linear"]

COSTS_FILE = Path(__file__).with_name("costs.json")


@dataclass(frozen=True, slots=True)
class Linear:
    """A cost that grows with a number: `base + slope * number`."""

    base: float = 0.0
    slope: float = 0.0

    def at(self, number: float) -> float:
        """Return the cost for this number."""
        return self.base + self.slope * number

    @classmethod
    def through(cls, first: tuple[float, float], second: tuple[float, float]) -> Self:
        """Return the line through two points (number, cost). It never falls, and is never below 0."""
        (low, low_cost), (high, high_cost) = first, second
        slope = max(0.0, (high_cost - low_cost) / (high - low))
        return cls(max(0.0, low_cost - slope * low), slope)


@dataclass(frozen=True, slots=True)
class Costs:
    """What operations cost. Times are seconds of CPU; those before `api_chat` are of Redis' one thread.

    A `Linear` grows with the number of workers, unless its comment names another number.
    """

    machine: str = ""
    #: A submit, with the message to a worker. The fetch of the message. The claim.
    submit: Linear = Linear()
    message: float = 0.0
    claim: float = 0.0
    #: An append of one event for each of so many jobs. Delivery of one event to one subscriber.
    append: Linear = Linear()
    publish: float = 0.0
    #: The append of the terminal event, which dispatches the next job.
    end: Linear = Linear()
    #: A stream of events: subscription, read of the log, and the end of the subscription.
    stream: float = 0.0
    #: The return of a lost worker's job to its queue. The deletion of an ended job.
    requeue: Linear = Linear()
    forget: float = 0.0
    #: The renewal of a lease. A look of recovery at all leases, by each process.
    renew: float = 0.0
    look: Linear = Linear()
    #: A round of recovery for a queue. One place that it tells a waiting job.
    dispatch: Linear = Linear()
    place: float = 0.0
    #: A worker and an API process without chats, per second, while jobs of others wait: CPU and round trips.
    idle_worker: float = 0.0
    idle_worker_trips: float = 0.0
    idle_api: float = 0.0
    idle_api_trips: float = 0.0
    #: CPU of an API process per chat and per event. CPU of a worker per chat and per event.
    api_chat: float = 0.0
    api_event: float = 0.0
    worker_chat: float = 0.0
    worker_event: float = 0.0
    #: Bytes: a token event to Redis and to its subscriber; a worker's lease in a look at all of them; the
    #: memory of a job without its log, and of an event in the log.
    event_in_bytes: float = 0.0
    event_out_bytes: float = 0.0
    lease_bytes: float = 0.0
    job_bytes: float = 0.0
    logged_bytes: float = 0.0
    #: Connections to Redis of a worker, and of an API process after 32 chats at once.
    worker_connections: float = 0.0
    api_connections: float = 0.0

    @classmethod
    def load(cls, path: Path = COSTS_FILE) -> Self:
        """Return the stored costs."""
        stored = json.loads(path.read_text("utf-8"))
        values: dict[str, Any] = {}
        for name, value in stored.items():
            values[name] = Linear(**value) if isinstance(value, dict) else value
        return cls(**values)

    def save(self, path: Path = COSTS_FILE) -> None:
        """Store the costs."""
        rounded = json.loads(json.dumps(asdict(self)), parse_float=lambda text: float(f"{float(text):.3g}"))
        path.write_text(json.dumps(rounded, indent=2) + "\n", "utf-8")
