"""Recovery: background repairs that every process runs and one process at a time executes.

It ends overdue jobs, requeues the jobs of lost workers, dispatches waiting jobs, sends lost messages again,
and deletes expired jobs and files that no job needs.
"""

import logging
import threading
from collections.abc import Callable
from contextlib import suppress

from redis.exceptions import RedisError

from worker.jobs.broker import queued_messages
from worker.jobs.connection.refusals import CommandRefused
from worker.jobs.dispatch.dispatcher import Dispatcher, known_facts
from worker.jobs.dispatch.file_cleanup import FileCleanup
from worker.jobs.dispatch.lease_watch import LeaseWatch
from worker.jobs.dispatch.webhook_queue import WebhookQueue
from worker.jobs.errors import MediaUnavailable
from worker.jobs.ledger.announcements import Announcements
from worker.jobs.ledger.queues import Queues
from worker.jobs.ledger.registry import Registry
from worker.jobs.ledger.rounds import Rounds
from worker.jobs.logs.facts import facts
from worker.jobs.media.files import Media
from worker.jobs.media.open import open_media_store

__all__ = ["Recovery"]

log = logging.getLogger(__name__)

#: Leases and deadlines are checked TICKS times per lease, and at least every TICK_MAX_S seconds. Lost
#: messages are looked for twice per lease.
TICKS, TICK_MAX_S = 10, 1.0
#: Rounds of jobs and of files while no job waits or runs come once in so many leases.
IDLE_JOBS, IDLE_FILES = 2, 3
#: Seconds between two broadcasts of positions.
BROADCAST_S = 1.0
#: Seconds between two searches for files that no job needs, and the age in seconds at which such files are
#: removed. An upload that is still running must not be mistaken for one.
FILES_CHECK_S, FILES_AGE_S = 600.0, 86_400.0


class Recovery:
    """The background repairs of one process, worker or API.

    The first process of an interval takes the round (a key in Redis marks it), and the others skip it. While
    no job waits or runs, rounds are rare, until a job is announced.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        media: Media | None = None,
        announcements: Announcements | None = None,
    ) -> None:
        self._dispatcher = dispatcher
        self._ledger = dispatcher.ledger
        self._store = store = self._ledger.store
        self._cleanup = FileCleanup(self._ledger, media or open_media_store(store.settings))
        self._registry = Registry(store)
        self._queues = Queues(store)
        self._rounds = Rounds(store)
        self._webhook_queue = WebhookQueue(store)
        self._lease_s = store.settings.lease_ttl_s
        self._interval_s = min(self._lease_s / TICKS, TICK_MAX_S)
        self._lease_watch = LeaseWatch(self._lease_s)
        self._work = (announcements or Announcements(store)).topic("work")
        self._stopped = threading.Event()
        #: Whether there is, or may be, a job or a webhook that is not done yet, or a worker that is lost.
        self._has_work = True

    def start(self) -> None:
        """Start two threads: one for jobs, and one for files, which a slow file store may delay."""
        for name, *loop in (
            ("recovery", self.run_jobs_round, self._pause),
            ("recovery-files", self.run_files_round, self._files_pause),
        ):
            threading.Thread(target=self._loop, args=loop, name=name, daemon=True).start()

    def stop(self) -> None:
        """Stop the threads after their current rounds."""
        self._stopped.set()
        self._work.wake()

    def _pause(self) -> bool:
        """Wait until the next round is due. Return whether the thread must stop instead."""
        if not self._has_work:
            self._work.wait(IDLE_JOBS * self._lease_s)
        return self._stopped.wait(self._interval_s)

    def _files_pause(self) -> bool:
        return self._stopped.wait(self._lease_s * (1 if self._has_work else IDLE_FILES))

    def _loop(self, run_round: Callable[[], None], pause: Callable[[], bool]) -> None:
        while not pause():
            try:
                run_round()
            except MediaUnavailable as error:
                log.warning("recovery: files will be removed later: %s", error)
            except RedisError as error:
                self._lease_watch.note_failure()
                self._has_work = True  # there may be some when Redis is back
                log.warning("recovery: Redis cannot be reached: %s", error)
            except Exception:
                log.exception("recovery: this round failed, the next one follows")

    def run_jobs_round(self) -> None:
        """Do the repairs of jobs and webhooks that are due, unless another process does them now."""
        idle_s = (IDLE_JOBS + 1) * self._lease_s
        look = self._registry.look(0.9 * self._interval_s, None if self._has_work else idle_s)
        longest_pause_s = max(self._lease_s / 3, 2 * self._interval_s)
        if not (self._has_work or look.undone):  # it has looked rarely, and loses no job by a mistake
            longest_pause_s = idle_s
        # Each process does this, to know which leases stay the same.
        self._lease_watch.note(look.leases, longest_pause_s)
        # Only frequent looks, for the time of a lease, show whether the worker of a lapsed lease is lost.
        self._has_work = look.undone or any(left_s < 0 for _, left_s in look.leases.values())
        if look.first:
            self._repair_jobs()
        elif not look.undone:  # a worker may be lost that has no job
            self.take_from_lost_workers()

    def _repair_jobs(self) -> None:
        while job_ids := self._ledger.end_overdue():
            found = self._ledger.find(job_ids)
            for job_id in job_ids:
                known = facts(**known_facts(job_id, found.get(job_id)))
                log.warning("ended, because its deadline has passed", extra=known)
        if self._rounds.take("places", BROADCAST_S):
            self.dispatch_waiting()
        self.take_from_lost_workers()
        self._webhook_queue.dispatch_due()
        if self._rounds.take("sweep", self._lease_s / 2):
            self.resend_lost_messages()

    def run_files_round(self) -> None:
        """Do the cleanups of files that are due, unless another process does them now."""
        if self._first_for_files("expired", 0.9 * self._lease_s):
            self._cleanup.remove_inputs(self._lease_s)
            self._cleanup.drop_expired()
            with suppress(CommandRefused):  # a full disk; the cleanup goes on
                self._queues.drop_messages()
        if self._first_for_files("files", FILES_CHECK_S):
            self._cleanup.drop_unneeded(FILES_AGE_S)

    def _first_for_files(self, name: str, seconds: float) -> bool:
        """Return what `Rounds.take` does, but True to every process while Redis refuses writes.

        A full disk may be the reason for that, and a cleanup makes room.
        """
        try:
            return self._rounds.take(name, seconds)
        except RedisError as error:
            if isinstance(error, CommandRefused):
                return True
            raise

    def take_from_lost_workers(self) -> None:
        """Requeue the jobs of the workers that are lost, and remove these workers."""
        for worker, end in self._lease_watch.lost().items():
            self._registry.release(worker, end)  # first, so that no job is dispatched to its slots
            self._dispatcher.requeue_lost(self._registry.jobs_of(worker), worker, 0)
            self._registry.release(worker, 0)

    def dispatch_waiting(self) -> None:
        """Dispatch jobs to slots that are still free, and broadcast the positions of the others."""
        for queue in self._queues.names():
            self._dispatcher.dispatch_next(queue)
            self._queues.broadcast_positions(queue)

    def resend_lost_messages(self) -> None:
        """Send a message again for each job that was dispatched a lease ago and has none in the broker.

        A worker may have fetched the message just now. An extra message does no harm, as it claims nothing.
        """
        now = self._store.clock.read()
        for queue in self._queues.names():
            jobs = self._queues.dispatched_before(queue, now - self._lease_s, now)
            known = queued_messages(self._store.settings, self._store.client, queue) if jobs else set()
            for job_id in (job_id for job_id in jobs if job_id not in known):
                log.info("its message is sent again", extra=facts(job=job_id))
                if not self._dispatcher.send_again(job_id):  # this Redis has lost the job
                    self._queues.drop_dispatched(queue, job_id)
