"""The records of jobs and queues, as typed values."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Literal, Self

from worker.jobs.errors import Unsupported
from worker.jobs.kinds import KINDS, model_of
from worker.jobs.specs import JobSpec, read_spec
from worker.jobs.stored import ADAPTER_SCHEMA, check_schema

__all__ = [
    "JobState",
    "QueueInfo",
    "Record",
    "parse_rfc3339",
    "rfc3339",
]

JobState = Literal["queued", "running", "succeeded", "failed", "canceled"]


@dataclass(frozen=True)
class Record:
    """The state of one job. Times are seconds since the epoch. `events` counts its logged events.

    It can be shown even if a newer version of Stoker has stored the job and only that version can run it.
    """

    id: str
    kind: str
    queue: str
    #: Id of the API key that submitted the job; empty if the API asks for none.
    owner: str
    #: The schema number of the stored job, and its specification as JSON.
    schema: str
    spec_json: str = field(repr=False)
    state: JobState
    created_at: float
    started_at: float | None
    finished_at: float | None
    attempt: int
    events: int
    worker: str | None
    device: str | None
    done: int
    total: int | None
    unit: str
    usage: dict[str, Any] | None
    result: dict[str, Any] | None
    error: dict[str, str] | None
    #: Position in the queue, from 1; None unless the job is queued.
    position: int | None = None
    #: Estimated time of the start; None unless the job is queued and a run time was measured.
    estimated_start: float | None = None
    #: The name and the time of the current claim, or of the last one; None before the first.
    claim: str | None = None
    claimed_at: float | None = None
    #: The length of the job (`JobSpec.length`).
    length: int = 1
    #: The token ids of a waiting chat's prompt, as `packed_prompt` writes them; empty if there are none.
    prompt: str = field(default="", repr=False)
    #: The id of the ended job that this one repeats.
    retry_of: str | None = None
    #: The tokens of a chat that metrics count already.
    counted: int = 0
    #: Why, and since when, an interrupted job has logged no new part of its result (s since the epoch).
    silence: tuple[str, float] | None = None
    #: The seconds that each stage of a video was busy, by the number of the attempt.
    stages: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    #: The span under which the job was submitted, or its own first span, as a header `traceparent`; None if
    #: the job belongs to no trace.
    trace: str | None = None
    #: The header `tracestate` of the same span.
    tracestate: str = ""
    #: A span of another trace that caused the job, as a header `traceparent`.
    trace_link: str | None = None

    @cached_property
    def spec(self) -> JobSpec:
        """The job's specification. Raises `Unsupported` if this version cannot read it."""
        check_schema(self.schema, ADAPTER_SCHEMA)
        if self.kind not in KINDS:
            raise Unsupported(f"this version has no jobs of the kind {self.kind}")
        return read_spec(KINDS[self.kind].spec, self.spec_json)

    @property
    def model(self) -> str:
        """The name of the job's model, which may be a LoRA adapter."""
        return self.adapter or model_of(self.queue)

    @property
    def adapter(self) -> str:
        """The name of the LoRA adapter that runs the job; empty if the model of the queue does."""
        named = self._stored_spec.get("model")
        return "" if named in (None, model_of(self.queue)) else str(named)

    @property
    def parameters(self) -> dict[str, Any]:
        """The client's parameters, without default values, and without contents such as messages.

        They are those that this version knows.
        """
        return KINDS[self.kind].spec.shown(self._stored_spec) if self.kind in KINDS else {}

    @cached_property
    def _stored_spec(self) -> dict[str, Any]:
        """The specification as it is stored, perhaps by a newer version; empty if it is no object."""
        spec = json.loads(self.spec_json)
        return spec if isinstance(spec, dict) else {}

    @property
    def terminal(self) -> bool:
        """True if the job has reached a final state."""
        return self.state not in ("queued", "running")

    @classmethod
    def from_hash(
        cls, job_id: str, fields: Mapping[str, str], position: Sequence[Any] | None = None, now: float = 0.0
    ) -> Self:
        """Return the record in the fields of the job's Redis hash.

        `position` is the reply of `position.lua` at the time `now`: the position and the estimated wait.
        """

        def number(name: str) -> float | None:
            return float(fields[name]) if name in fields else None

        def silence() -> tuple[str, float] | None:
            reason, _, time = fields.get("silent", "").partition(" ")
            return (reason, parse_rfc3339(time)) if time else None

        def loaded(name: str) -> dict[str, Any] | None:
            return json.loads(fields[name]) if name in fields else None

        kind = fields["kind"]
        return cls(
            id=job_id,
            kind=kind,
            queue=fields["queue"],
            owner=fields.get("owner", ""),
            schema=fields.get("schema", "1"),
            spec_json=fields["spec"],
            state=fields["state"],  # type: ignore[arg-type]  # the scripts write nothing else
            created_at=float(fields["created_at"]),
            started_at=number("started_at"),
            finished_at=number("finished_at"),
            attempt=int(fields["attempt"]),
            events=int(fields["events"]),
            worker=fields.get("worker"),
            device=fields.get("device"),
            done=int(fields.get("done", 0)),
            total=int(fields["total"]) if "total" in fields else None,
            unit=KINDS[kind].unit if kind in KINDS else "units",
            usage=loaded("usage"),
            result=loaded("result"),
            error=loaded("error"),
            position=position[0] if position else None,
            estimated_start=now + float(position[1]) if position and position[1] else None,
            claim=fields.get("claim"),
            claimed_at=number("claimed_at"),
            length=int(fields.get("length", 1)),
            prompt=fields.get("prompt", ""),
            retry_of=fields.get("retry_of"),
            counted=int(fields.get("counted", 0)),
            silence=silence(),
            stages=loaded("stages") or {},
            trace=fields.get("trace"),
            tracestate=fields.get("tracestate", ""),
            trace_link=fields.get("trace_link"),
        )


@dataclass(frozen=True, slots=True)
class QueueInfo:
    """A queue: numbers of waiting and running jobs, slots of its ready workers, and limit of waiting jobs."""

    name: str
    waiting: int
    running: int
    slots: int
    max_waiting: int
    #: Estimated seconds until a job that is submitted now starts; None if no worker is ready, no run time was
    #: measured, or the queue is paused.
    estimated_wait_s: float | None
    #: Whether an administrator has paused the queue: its jobs wait, and no worker takes one.
    paused: bool = False


def rfc3339(epoch_s: float) -> str:
    """Format the time in UTC with milliseconds, as in RFC 3339: `2026-01-31T12:00:00.000Z`."""
    return datetime.fromtimestamp(epoch_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_rfc3339(text: str) -> float:
    """Return the seconds since the epoch of a time as `rfc3339` formats it."""
    return datetime.fromisoformat(text).timestamp()
