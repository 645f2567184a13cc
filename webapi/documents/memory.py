"""The JSON document of a job's memory."""

from pydantic import BaseModel, ConfigDict

from worker.jobs.events import LoggedEvent

__all__ = ["MemoryDocument"]


class MemorySampleDocument(BaseModel):
    """Bytes at one moment."""

    model_config = ConfigDict(title="MemorySample")

    allocated: int
    reserved: int


class BatchMemoryDocument(BaseModel):
    """One batch: `frames` real ones, `padded` filled in, `size` both; memory in bytes.

    `first` and `last` are those of the attempt; `grew` says that a later batch than the first reserved
    more memory, which a warm worker should not need.
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
    """The memory report of a job, batch by batch; a chat has no batches."""

    id: str
    batches: list[BatchMemoryDocument]

    @classmethod
    def from_events(cls, job_id: str, events: list[LoggedEvent]) -> "MemoryDocument":
        """From the job's events."""
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
