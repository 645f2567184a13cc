"""The jobs of batches whose results are collected. Their records are deleted a while later."""

import time
from collections import deque
from collections.abc import Sequence

from worker.jobs.ledger.ledger import Ledger

__all__ = ["CollectedJobs"]


class CollectedJobs:
    """Deletes collected jobs, so that they do not displace the other ended jobs of their key.

    It waits for three leases. A slow process that has lost the lease of batches might take a deleted job for
    one that was never submitted. Jobs with webhooks stay, because the sender needs them. If this process ends
    before, the jobs stay until their retention is over.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._wait_s = 3 * ledger.store.settings.lease_ttl_s
        self._due: deque[tuple[float, Sequence[str]]] = deque()

    def __bool__(self) -> bool:
        return bool(self._due)

    def add(self, job_ids: Sequence[str]) -> None:
        """Let these jobs be deleted later."""
        self._due.append((time.monotonic() + self._wait_s, job_ids))

    def delete_due(self) -> None:
        """Delete the jobs whose time has come. Raises `RedisError`."""
        while self._due and self._due[0][0] <= time.monotonic():
            job_ids = self._due[0][1]
            hosts = self._ledger.fields("webhook_host", job_ids)
            self._ledger.forget_all([job for job, host in zip(job_ids, hosts, strict=True) if not host])
            self._due.popleft()
