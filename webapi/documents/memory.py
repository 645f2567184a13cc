"""The JSON document of the memory that a job used."""

from pydantic import BaseModel, ConfigDict

from worker.jobs.events import LoggedEvent

__all__ = ["BatchMemoryDocument", "MemoryDocument"]


class MemorySampleDocument(BaseModel):
    """Memory at one moment, in bytes."""

    model_config = ConfigDict(title="MemorySample")

    allocated: int
    reserved: int


class BatchMemoryDocument(BaseModel):
    """A batch of `size` frames: `frames` of the clip and `padded` of padding. Memory is in bytes.

    `first` and `last` mark the first and the last batch of an attempt. `grew` marks a later batch than the
    first one that reserved more memory. A warmed-up worker should not need that.
    """

    model_config = ConfigDict(title="BatchMemory")

    attempt: int
    index: int
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


class MemoryDocument(BaseModel):
    """The memory report of a job, batch by batch. A chat has no batches."""

    id: str
    batches: list[BatchMemoryDocument]

    @classmethod
    def from_events(cls, job_id: str, events: list[LoggedEvent]) -> "MemoryDocument":
        """Return the report of the batch events among the job's events."""
        seen = [event.data for event in events if event.type == "batch"]
        attempts = [None, *(data["attempt"] for data in seen), None]
        batches = []
        for i, data in enumerate(seen, 1):
            memory, first = data["memory"], attempts[i - 1] != attempts[i]
            grew = not first and memory["after"]["reserved"] > memory["before"]["reserved"]
            marks = {"first": first, "last": attempts[i + 1] != attempts[i], "grew": grew}
            size = {"size": data["frames"] + data["padded"]}
            batches.append(BatchMemoryDocument.model_validate(data | memory | size | marks))
        return cls(id=job_id, batches=batches)
