"""Recovery: jobs of workers whose lease has lapsed go back to their queue, and lost hints are sent again."""

import logging
import threading
import time

from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from worker.jobs.broker import AHEAD, hint_keys, kind_of, send_hint
from worker.jobs.ledger import Ledger, Reason
from worker.jobs.media import JobFiles
from worker.jobs.registry import Registry

__all__ = ["Recovery", "queue_again"]

log = logging.getLogger(__name__)


def queue_again(ledger: Ledger, job_id: str, worker: str, reason: Reason) -> None:
    """Take the job from the worker back to its place in the queue, and hint at it."""
    if queue := ledger.requeue(job_id, worker, reason):
        log.warning("job %s goes back to %s: %s, %s", job_id, queue, worker, reason)
        send_hint(kind_of(queue), job_id, queue, AHEAD)


class Recovery:
    """Runs in every worker and in the API; whoever comes first in an interval does the round for all."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._registry = Registry(ledger)
        self._interval_s = ledger.settings.lease_ttl_s / 2
        self._stopped = threading.Event()

    def start(self) -> None:
        """Run in a thread of its own."""
        threading.Thread(target=self._loop, name="recovery", daemon=True).start()

    def stop(self) -> None:
        """Start no further round."""
        self._stopped.set()

    def _loop(self) -> None:
        while not self._stopped.wait(self._interval_s):
            try:
                if self._first_in_interval():
                    self.round()
            except (RedisError, OperationalError) as error:
                log.warning("recovery waits for Redis: %s", error)
            except Exception:
                log.exception("recovery: this round failed, the next is due")

    def _first_in_interval(self) -> bool:
        key, ttl_ms = self._ledger.key("recovery"), int(self._interval_s * 900)
        return bool(self._ledger.redis.set(key, "1", nx=True, px=ttl_ms))

    def round(self) -> None:
        """Look once for lapsed leases, lost hints and expired jobs."""
        for worker in self._registry.lapsed():
            self._requeue_jobs_of(worker)
        for queue in self._registry.queues():
            if queue.waiting:
                self._repeat_lost_hints(queue.name)
        for job_id in self._ledger.drop_expired():
            JobFiles.of(self._ledger.settings.media_dir, job_id).remove()

    def _requeue_jobs_of(self, worker: str) -> None:
        for job_id in self._registry.jobs_of(worker):
            queue_again(self._ledger, job_id, worker, "worker_lost")
        self._registry.release(worker)

    def _repeat_lost_hints(self, queue: str) -> None:
        """Fewer messages than waiting jobs: some were lost. A hint too many claims nothing."""
        waiting = self._registry.waiting(queue)
        keys = hint_keys(self._ledger.settings, queue)
        if sum(self._ledger.redis.llen(key) for key in keys) >= len(waiting):
            return
        if time.time() - self._ledger.get(waiting[0]).created_at < self._ledger.settings.lease_ttl_s:
            return  # its hint may be on its way
        log.warning("sending the hints of %d jobs in %s again", len(waiting), queue)
        for job_id in waiting:
            send_hint(kind_of(queue), job_id, queue, AHEAD)  # all of them, so that they keep their order
