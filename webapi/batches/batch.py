"""One batch, as it is stored."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from worker.jobs.trace_context import TraceContext

__all__ = ["ENDED", "Batch", "Status", "Stop"]

Status = Literal[
    "validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"
]
#: Why a batch ends before all of its requests are answered. It is also the batch's last status.
Stop = Literal["cancelled", "expired"]

ENDED: tuple[Status, ...] = ("failed", "completed", "expired", "cancelled")


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch. `fields` are those of its Redis hash. Times in them are seconds since the epoch."""

    id: str
    fields: Mapping[str, str]

    @classmethod
    def of(cls, batch_id: str, fields: Mapping[str, str]) -> Self:
        """Return the batch with this id and these fields."""
        return cls(batch_id, fields)

    @property
    def owner(self) -> str:
        """The id of the API key that has created it; empty if the API asks for none."""
        return self.fields["owner"]

    @property
    def status(self) -> Status:
        """Its status."""
        return self.fields["status"]  # type: ignore[return-value]  # nothing else is written

    @property
    def stop(self) -> Stop | None:
        """Why it ends early, if it does."""
        return self.fields.get("stop")  # type: ignore[return-value]

    @property
    def input_file_id(self) -> str:
        """The id of the file with its requests."""
        return self.fields["input_file_id"]

    @property
    def endpoint(self) -> str:
        """The path of the route that its requests are for."""
        return self.fields["endpoint"]

    @property
    def expires_at(self) -> float:
        """The time at which it stops if it has not ended."""
        return float(self.fields["expires_at"])

    @property
    def total(self) -> int | None:
        """The number of its requests; None until it is validated."""
        return self.number("total") if "total" in self.fields else None

    @property
    def trace(self) -> TraceContext | None:
        """The span of the request that has created it, if that belongs to a trace."""
        return TraceContext.parse(self.fields.get("trace"))

    @property
    def folder(self) -> str:
        """The start of the keys of its parts in the media store."""
        return f"batches/{self.id}"

    def number(self, name: str) -> int:
        """Return a number; 0 if there is none."""
        return int(float(self.fields.get(name, 0)))

    def time(self, name: str) -> int | None:
        """Return a time in whole seconds, if there is one."""
        return self.number(name) if name in self.fields else None

    def document(self, name: str) -> Any:
        """Return what a field of JSON says, or None."""
        return json.loads(self.fields[name]) if name in self.fields else None
