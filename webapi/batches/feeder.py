"""The feeder: the thread of an API process that runs batches. One process at a time does it."""

import logging
import threading
import time
import uuid

from flask import Flask, g
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from webapi.batches.batch import Batch
from webapi.batches.batch_store import BatchStore
from webapi.batches.collected_jobs import CollectedJobs
from webapi.batches.run import BatchRun, Room
from webapi.files.file_store import FileStore
from webapi.keys.key import Key
from webapi.services.backend import Backend
from worker.jobs.errors import MediaUnavailable, NotReplicated
from worker.jobs.ledger.rounds import Rounds

__all__ = ["Feeder"]

log = logging.getLogger(__name__)

#: Seconds between two rounds of the process that runs the batches, and of the others while there are batches.
BUSY_S, STANDBY_S = 0.25, 1.0
#: Seconds between two searches for files whose time is over.
FILES_CHECK_S = 60.0


class Feeder:
    """Runs the unfinished batches of all keys, oldest first.

    The process that holds a lease in Redis does it. If the process dies, another one goes on. If two do it
    for a moment, nothing is done twice: a request has one job id, and `BatchStore.collect` and `change`
    refuse what comes too late. A new batch is announced. While there is none, the thread looks once per
    lease.
    """

    def __init__(self, app: Flask, backend: Backend) -> None:
        self._app = app
        self._backend = backend
        self._name = uuid.uuid4().hex
        self._batches = BatchStore(backend.store)
        self._files = FileStore(backend.store, backend.media)
        self._jobs = CollectedJobs(backend.ledger)
        self._rounds = Rounds(backend.store)
        self._runs: dict[str, BatchRun] = {}
        self._news = backend.announcements.topic("batches")
        #: When the lease must be renewed, by the monotonic clock; 0 without the lease.
        self._renew_at = 0.0

    def start(self) -> None:
        """Start the thread. It runs as long as the process."""
        threading.Thread(target=self._loop, name="batches", daemon=True).start()

    def _loop(self) -> None:
        while True:
            pause_s = STANDBY_S
            try:
                pause_s = self.run_round()
            except (RedisError, NotReplicated, OperationalError) as error:
                log.debug("batches wait for Redis: %s", error)
            except Exception:  # the next round may succeed
                log.exception("batches: this round failed, the next one follows")
            self._news.wait(pause_s)

    def run_round(self) -> float:
        """Take a step of each batch if this process has the lease. Return the pause after it, in seconds."""
        if self._rounds.take("file-expiry", FILES_CHECK_S):
            self._delete_expired_files()
        batches, rooms = self._batches.unfinished(), dict[str, Room]()
        if not (batches or self._runs or self._jobs):
            return self._backend.settings.lease_ttl_s
        for batch in batches:
            if not self._has_lease():
                return STANDBY_S
            self._step(batch, rooms)
        self._jobs.delete_due()
        for batch_id in self._runs.keys() - {batch.id for batch in batches}:
            self._runs.pop(batch_id).close()
        return BUSY_S if batches else STANDBY_S

    def _has_lease(self) -> bool:
        """Return whether this process has the lease. It is renewed after a third of its time."""
        lease_s, now = self._backend.settings.lease_ttl_s, time.monotonic()
        if now >= self._renew_at:
            has_it = self._backend.store.take_lease("batches", self._name, lease_s)
            self._renew_at = now + lease_s / 3 if has_it else 0.0
        return self._renew_at > 0

    def _delete_expired_files(self) -> None:
        try:
            self._files.delete_expired()
        except MediaUnavailable as error:
            log.warning("expired files are deleted later: %s", error)

    def _step(self, batch: Batch, rooms: dict[str, Room]) -> None:
        key = self._backend.keys.get(batch.owner) if batch.owner else None
        if key and key.state == "revoked" and batch.status in ("validating", "in_progress"):
            self._batches.change(batch, "cancelling", stop="cancelled")
            return
        room = rooms.setdefault(batch.owner, Room(self._waiting(key)))
        run = self._runs.setdefault(batch.id, BatchRun(self._backend, self._batches, self._files, self._jobs))
        with self._app.app_context():
            if key:
                g.key = key
            try:
                run.step(batch, room)
            except (MediaUnavailable, OSError) as error:
                log.warning("%s waits for the media store: %s", batch.id, error)
            except (RedisError, NotReplicated):
                raise
            except Exception:  # the other batches go on
                log.exception("%s: this step failed, the next one follows", batch.id)

    def _waiting(self, key: Key | None) -> int:
        """Return how many requests of the key's batches may wait: at most half of what the key may have."""
        settings = self._backend.settings
        most = settings.max_waiting
        if key:
            most = settings.max_waiting_per_key if key.max_waiting is None else key.max_waiting
        return max(1, min(settings.batch_waiting, most // 2))
