"""Recovery: what is left undone when a worker, a hint or Redis is lost is done by whoever is still there."""

import logging
import threading
from collections.abc import Callable

from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from worker.jobs.broker import queued_messages
from worker.jobs.dispatch.dispatcher import dispatch, dispatch_next
from worker.jobs.dispatch.webhook_queue import WebhookQueue
from worker.jobs.errors import JobNotFound, MediaUnavailable
from worker.jobs.events import Reason
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.ledger.queues import Queues
from worker.jobs.ledger.registry import Registry
from worker.jobs.media.files import Media
from worker.jobs.media.open import open_media_store

__all__ = ["Recovery", "RedisUptime", "requeue"]

log = logging.getLogger(__name__)

#: Leases and deadlines are looked at this many times a lease, and once in so many seconds at least; hints
#: twice a lease.
TICKS, TICK_MAX_S = 10, 1.0
#: A place in the queue is told at most so often.
BROADCAST_S = 1.0
#: How often files are looked for that nobody needs, and how old they must be: an upload may take its time.
FILES_CHECK_S, FILES_AGE_S = 600.0, 86_400.0


def requeue(ledger: Ledger, job_id: str, worker: str, reason: Reason, attempt: int | None = None) -> None:
    """Take the job from the worker (and attempt) back to the front of its queue, and call who is next."""
    if queue := ledger.requeue(job_id, worker, reason, attempt):
        log.warning("job %s goes back to %s: %s, %s", job_id, queue, worker, reason)
        dispatch_next(ledger, queue)


class RedisUptime:
    """For how long we have been in touch with Redis without a break, in seconds.

    While Redis is away no worker can renew its lease. So nobody who has just found it again, or has just
    woken up, may call a worker lost: all must have had the time to renew first. The clock is Redis' own, for
    leases are measured by it, and it goes on while a machine sleeps.
    """

    def __init__(self, longest_break_s: float) -> None:
        self._longest_break_s = longest_break_s
        self._since: float | None = None
        self._last = 0.0

    def made(self, now: float) -> None:
        """Redis has answered."""
        if self._since is None or now - self._last > self._longest_break_s:
            self._since = now
        self._last = now

    def lost(self) -> None:
        """Redis has not answered."""
        self._since = None

    @property
    def held_s(self) -> float:
        """Up to the last answer."""
        return 0.0 if self._since is None else self._last - self._since


class Recovery:
    """Runs in every worker and in the API; whoever comes first in an interval does the round for all."""

    def __init__(self, ledger: Ledger, media: Media | None = None) -> None:
        self._ledger = ledger
        self._media = media or open_media_store(ledger.settings)
        self._registry = Registry(ledger)
        self._queues = Queues(ledger)
        self._webhook_queue = WebhookQueue(ledger)
        self._lease_s = ledger.settings.lease_ttl_s
        self._interval_s = min(self._lease_s / TICKS, TICK_MAX_S)
        self._contact = RedisUptime(max(self._lease_s / 3, 2 * self._interval_s))
        self._stopped = threading.Event()

    def start(self) -> None:
        """Run in a thread of its own, and files in another: they may be far away, and leases do not wait."""
        for name, *loop in (
            ("recovery", self._tick, self._interval_s),
            ("recovery-files", self._tick_files, self._lease_s / 2),
        ):
            threading.Thread(target=self._loop, args=loop, name=name, daemon=True).start()

    def stop(self) -> None:
        """Start no further round."""
        self._stopped.set()

    def _loop(self, tick: Callable[[], None], interval_s: float) -> None:
        while not self._stopped.wait(interval_s):
            try:
                tick()
            except MediaUnavailable as error:
                log.warning("recovery leaves files for later: %s", error)
            except (RedisError, OperationalError) as error:
                self._contact.lost()
                log.warning("recovery waits for Redis: %s", error)
            except Exception:
                log.exception("recovery: this round failed, the next is due")

    def _tick(self) -> None:
        first, now = self._first_within("tick", 0.9 * self._interval_s), self._now()
        self._contact.made(now)
        if not first:
            return
        for job_id in self._ledger.end_overdue():
            log.warning("job %s: its time was up", job_id)
        if self._first_within("places", BROADCAST_S):
            self.dispatch_waiting()
        if self._contact.held_s >= self._lease_s:
            self.take_from_lost_workers()
        self._webhook_queue.dispatch_due(now)
        if self._first_within("sweep", self._lease_s / 2):
            self.resend_lost_messages()

    def _tick_files(self) -> None:
        if self._first_within("expired", 0.45 * self._lease_s):
            self.drop_expired()
        if self._first_within("files", FILES_CHECK_S):
            self.drop_files(FILES_AGE_S)

    def _now(self) -> float:
        """By Redis' clock."""
        seconds, microseconds = self._ledger.redis.time()
        return seconds + microseconds / 1e6

    def _first_within(self, name: str, seconds: float) -> bool:
        key, ttl_ms = self._ledger.key("recovery", name), int(seconds * 1000)
        return bool(self._ledger.redis.set(key, "1", nx=True, px=max(1, ttl_ms)))

    def take_from_lost_workers(self) -> None:
        """Queue the jobs again of all workers whose lease has ended."""
        for worker in self._registry.lapsed():
            for job_id in self._registry.jobs_of(worker):
                requeue(self._ledger, job_id, worker, "worker_lost")
            self._registry.release(worker, only_lapsed=True)

    def dispatch_waiting(self) -> None:
        """Call whoever has a free slot, should nobody have done so, and tell the others their places."""
        for queue in self._queues.names():
            dispatch_next(self._ledger, queue)
            self._queues.broadcast_positions(queue)

    def resend_lost_messages(self) -> None:
        """Hint again at the jobs that were called a lease ago and at which no message hints any more.

        A hint too many claims nothing; one that a worker has just taken from the broker may be repeated.
        """
        latest = self._now() - self._lease_s
        for queue in self._queues.names():
            called = self._queues.dispatched_before(queue, latest)
            known = queued_messages(self._ledger.settings, self._ledger.redis, queue) if called else set()
            for job_id in (job_id for job_id in called if job_id not in known):
                try:
                    self._ledger.get(job_id)
                except JobNotFound:  # this Redis has lost data
                    self._queues.drop_dispatched(queue, job_id)
                    continue
                log.info("job %s: its hint is sent again", job_id)
                dispatch(queue, [job_id])

    def drop_expired(self) -> None:
        """Forget jobs that ended long ago, and their files."""
        for job_id in self._ledger.drop_expired():
            self._media.files(job_id).remove()

    def drop_files(self, age_s: float) -> None:
        """Remove what has not been touched for so long, and belongs to no job or is of no more use to it.

        An API that died in the middle of an upload leaves such files, and a worker that died behind the end.
        """
        for files in self._media.older_than(age_s):
            try:
                record = self._ledger.get(files.job_id)
                if record.terminal:
                    files.remove_work()
                if record.state in ("failed", "canceled"):
                    files.remove_result()
            except JobNotFound:
                log.info("the files of %s belong to no job", files.job_id)
                files.remove()
