"""Fair turns between API keys, in the order of the ledger."""

import heapq
from collections import deque
from typing import Generic, TypeVar

__all__ = ["Turns"]

Job = TypeVar("Job")


class Turns(Generic[Job]):
    """The waiting jobs of a queue, in the order of start-time fair queueing; see `lua/queue.lua`.

    Every job has the length 1, and no job has a priority.
    """

    def __init__(self) -> None:
        self._flows: dict[int, deque[Job]] = {}
        self._tags: dict[int, int] = {}
        self._heap: list[tuple[int, int]] = []
        self._last: dict[int, int] = {}
        self._now = 0
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def put(self, key: int, job: Job) -> None:
        """Add a job of the key."""
        if key not in self._flows:
            self._flows[key] = deque()
            self._set_tag(key, max(self._now, self._last.get(key, 0)))
        self._flows[key].append(job)
        self._length += 1

    def put_back(self, key: int, job: Job) -> None:
        """Put a job back that was taken before: it goes ahead of its key's other jobs, for the same turn."""
        flow = self._flows.setdefault(key, deque())
        self._set_tag(key, self._tags.get(key, self._last.get(key, 0)) - 1)
        flow.appendleft(job)
        self._length += 1

    def take(self) -> Job:
        """Remove the next job and return it."""
        while True:
            tag, key = heapq.heappop(self._heap)
            if self._tags.get(key) == tag:
                break
        self._now = max(self._now, tag)
        job = self._flows[key].popleft()
        self._length -= 1
        if self._flows[key]:
            self._set_tag(key, tag + 1)
        else:
            del self._flows[key], self._tags[key]
            self._last[key] = tag + 1
        return job

    def _set_tag(self, key: int, tag: int) -> None:
        self._tags[key] = tag
        heapq.heappush(self._heap, (tag, key))
