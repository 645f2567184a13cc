"""The JSON document of the memory that a job used."""

from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from worker.jobs.events import LoggedEvent

__all__ = ["BatchMemoryDocument", "DeviceMemoryDocument", "MemoryDocument"]


class MemorySampleDocument(BaseModel):
    """Memory at one moment, in bytes."""

    model_config = ConfigDict(title="MemorySample")

    allocated: int
    reserved: int


class BatchMemoryDocument(BaseModel):
    """A batch of `size` frames: `frames` of the clip and `padded` of padding. Memory is in bytes.

    `worker` has run it on `device`. `first` and `last` mark the first and the last batch of this worker in
    the attempt. `grew` marks a later batch than the first one that reserved more memory. A warmed-up worker
    should not need that.
    """

    model_config = ConfigDict(title="BatchMemory")

    attempt: int
    index: int
    worker: str | None
    device: str | None
    frames: int
    padded: int
    size: int
    seconds: float
    source: str
    before: MemorySampleDocument
    after: MemorySampleDocument
    peak_allocated: int
    peak_reserved: int
    first: bool
    last: bool
    grew: bool


class DeviceMemoryDocument(BaseModel):
    """The memory of a worker's device in all its batches of the job, in bytes.

    `allocated` and `reserved` are those after its last batch, and the peaks are its largest. `batches` and
    `frames` count its batches and the real frames in them. `grew` says whether any of its batches did.
    """

    model_config = ConfigDict(title="DeviceMemory")

    worker: str | None
    device: str | None
    source: str
    batches: int
    frames: int
    allocated: int
    reserved: int
    peak_allocated: int
    peak_reserved: int
    grew: bool

    @classmethod
    def from_batches(cls, batches: Sequence[BatchMemoryDocument]) -> "DeviceMemoryDocument":
        """Return the summary of all batches of one worker."""
        last = batches[-1]
        return cls(
            worker=last.worker,
            device=last.device,
            source=last.source,
            batches=len(batches),
            frames=sum(batch.frames for batch in batches),
            allocated=last.after.allocated,
            reserved=last.after.reserved,
            peak_allocated=max(batch.peak_allocated for batch in batches),
            peak_reserved=max(batch.peak_reserved for batch in batches),
            grew=any(batch.grew for batch in batches),
        )


class MemoryDocument(BaseModel):
    """The memory report of a job, batch by batch and for each device. A chat has no batches."""

    id: str
    batches: list[BatchMemoryDocument]
    devices: list[DeviceMemoryDocument]

    @classmethod
    def from_events(cls, job_id: str, events: Sequence[LoggedEvent]) -> "MemoryDocument":
        """Return the report of the batch events among the job's events."""
        seen = list(_batches(events))
        runs = [(data["attempt"], data["worker"], data["device"]) for data in seen]
        lasts = {run: i for i, run in enumerate(runs)}
        firsts = {run: i for i, run in reversed(list(enumerate(runs)))}
        batches = []
        for i, (data, run) in enumerate(zip(seen, runs, strict=True)):
            memory, first = data["memory"], firsts[run] == i
            grew = not first and memory["after"]["reserved"] > memory["before"]["reserved"]
            marks = {"first": first, "last": lasts[run] == i, "grew": grew}
            size = {"size": data["frames"] + data["padded"]}
            batches.append(BatchMemoryDocument.model_validate(data | memory | size | marks))
        devices = map(DeviceMemoryDocument.from_batches, batches_by_device(batches))
        return cls(id=job_id, batches=batches, devices=list(devices))


def batches_by_device(batches: Sequence[BatchMemoryDocument]) -> Sequence[Sequence[BatchMemoryDocument]]:
    """Return the batches of each worker and its device, in the order of their first batches."""
    found: dict[tuple[str | None, str | None], list[BatchMemoryDocument]] = {}
    for batch in batches:
        found.setdefault((batch.worker, batch.device), []).append(batch)
    return list(found.values())


def _batches(events: Sequence[LoggedEvent]) -> Iterator[dict[str, Any]]:
    """Yield the fields of all batch events.

    Older workers do not name themselves in them. Then the worker is the one that has started the attempt.
    """
    place: dict[str, Any] = {"worker": None, "device": None}
    for event in events:
        if event.type == "started":
            place = {name: event.data.get(name) for name in place}
        elif event.type == "batch":
            yield place | event.data
