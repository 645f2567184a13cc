"""The thread of an API process that makes the spans of ended jobs. One process at a time does it."""

import logging
import threading
import uuid
from collections.abc import Sequence
from typing import cast

from redis.exceptions import RedisError

from webapi.tracing.exporter import Collector
from webapi.tracing.job_spans import job_spans
from worker.jobs.errors import JobNotFound
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.logs.facts import facts

__all__ = ["EndedJobs"]

log = logging.getLogger(__name__)

#: Seconds between two looks for ended jobs.
INTERVAL_S = 1.0
#: Jobs that are read before their spans are exported.
PAGE = 100
#: How long a process has the lease, in seconds: longer than a page takes if the collector does not answer.
LEASE_S = 30.0


class EndedJobs:
    """Exports the spans of jobs that have ended, whatever ended them.

    The script that ends a job adds it to the set `traces` in Redis, and its spans are made from the ledger.
    So they do not depend on the worker. A job leaves the set after the export. If this process dies
    meanwhile, the next one repeats the export with the same ids of spans.
    """

    def __init__(self, ledger: Ledger, collector: Collector) -> None:
        self._ledger = ledger
        self._store = ledger.store
        self._collector = collector
        self._name = uuid.uuid4().hex
        self._set = self._store.key("traces")
        self._pause = threading.Event()

    def start(self) -> None:
        """Start the thread. It runs as long as the process."""
        threading.Thread(target=self._loop, name="traces", daemon=True).start()

    def _loop(self) -> None:
        while True:
            busy = False
            try:
                busy = self.run_round()
            except RedisError as error:
                log.debug("traces wait for Redis: %s", error)
            except Exception:  # the next round may succeed
                log.exception("traces: this round failed, the next one follows")
            if not busy:
                self._pause.wait(INTERVAL_S)

    def run_round(self) -> bool:
        """Export the spans of a page of jobs if this process has the lease.

        Return whether there may be more. Raises `RedisError`.
        """
        if not self._store.take_lease("traces", self._name, LEASE_S):
            return False
        job_ids = cast("Sequence[str]", self._store.client.zrange(self._set, 0, PAGE - 1))
        for job_id in job_ids:
            self._add(job_id)
        if job_ids:
            self._collector.flush()
            self._store.client.zrem(self._set, *job_ids)
        return len(job_ids) == PAGE

    def before_forget(self, job_id: str) -> None:
        """Make the spans of a job that is deleted now, if they are not made yet."""
        if self._store.client.zrem(self._set, job_id):
            self._add(job_id)

    def _add(self, job_id: str) -> None:
        try:
            record = self._ledger.get(job_id)
            self._collector.add(job_spans(record, self._ledger.events(job_id), self._collector.resource))
        except JobNotFound:
            log.debug("deleted before its spans were made", extra=facts(job=job_id))
        except RedisError:
            raise
        except Exception:  # the other jobs must not wait for this one
            log.exception("its spans cannot be made", extra=facts(job=job_id))
