"""Celery's events about a worker and its jobs, for monitors such as Flower."""

import logging
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from functools import partial
from importlib.metadata import version
from typing import Any

from celery.worker import control
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from worker.jobs.daemon_threads import DaemonThreads
from worker.jobs.errors import JobNotFound
from worker.jobs.kinds import task_of
from worker.jobs.ledger.reader import LedgerReader
from worker.jobs.records import Record
from worker.runs.hooks import RunHook
from worker.runs.run import Run

__all__ = ["TaskEvents"]

log = logging.getLogger(__name__)

#: How long events are sent after a monitor has asked for them (`control enable_events`), in seconds. Flower
#: asks once in `ASKED_S`.
WATCHED_S, ASKED_S = 15.0, 5.0
#: How long the last event may take, in seconds.
STOP_S = 2.0


class TaskEvents(RunHook):
    """Sends events while a monitor asks for them, from a thread of its own. Otherwise it sends none.

    Celery's own events are off, because Celery only sees that the lane's task has returned: a job that failed
    would be a success. The events here say what the ledger says.
    """

    def __init__(self, app: Any, worker: str, ledger: LedgerReader) -> None:
        self._app = app
        self._worker = worker
        self._ledger = ledger
        self._thread = DaemonThreads("task-events", limit=1)
        #: Celery's dispatcher of events. Only the thread uses it.
        self._dispatcher: Any = None
        self._watched_until = 0.0
        #: The current runs by id, with the times of their starts.
        self._runs: dict[str, tuple[Run, float]] = {}
        self._ended = 0

    def install(self) -> None:
        """Let Celery's commands `enable_events` and `disable_events` start and stop the events."""
        control.Panel.data["enable_events"] = lambda state, **_: self.watch()
        control.Panel.data["disable_events"] = lambda state, **_: self.stop()

    def watch(self) -> dict[str, str]:
        """Send events for the next seconds, beginning with a heartbeat and, at first, the current runs."""
        begins = not self._watched
        self._watched_until = time.monotonic() + WATCHED_S
        if begins:
            self._submit(partial(self._begin, [run.record for run, _ in list(self._runs.values())]))
        self._submit(self._heartbeat)
        return {"ok": "task events enabled"}

    def stop(self) -> dict[str, str]:
        """Send no more events but one that the worker goes offline. Wait for that for at most `STOP_S`."""
        if self._watched:
            self._watched_until = 0.0
            wait([self._submit(partial(self._send, "worker-offline", **self._facts()))], STOP_S)
        return {"ok": "task events disabled"}

    def before_run(self, run: Run) -> None:
        """Tell of the start."""
        self._runs[run.id] = run, time.monotonic()
        if self._watched:
            self._submit(partial(self._tell_start, run.record))

    def after_run(self, run: Run) -> None:
        """Tell of the end."""
        _, began = self._runs.pop(run.id)
        self._ended += 1
        if self._watched:
            self._submit(partial(self._tell_end, run.record, time.monotonic() - began))

    @property
    def _watched(self) -> bool:
        return time.monotonic() < self._watched_until

    def _submit(self, tell: Callable[[], None]) -> Future[None]:
        return self._thread.submit(partial(self._safely, tell))

    def _safely(self, tell: Callable[[], None]) -> None:
        """Run `tell` in the thread. An event that cannot be sent is dropped."""
        try:
            tell()
        except (RedisError, OperationalError, OSError) as error:
            log.debug("events are lost: %s", error)
            self._dispatcher = None
        except Exception:
            log.exception("events are lost")

    def _begin(self, running: Sequence[Record]) -> None:
        self._send("worker-online", **self._facts())
        for record in running:
            self._tell_start(record)

    def _heartbeat(self) -> None:
        self._send("worker-heartbeat", **self._facts())

    def _facts(self) -> dict[str, Any]:
        software = {"sw_ident": "stoker", "sw_ver": version("stoker"), "sw_sys": os.uname().sysname}
        counts = {"active": len(self._runs), "processed": self._ended, "loadavg": os.getloadavg()}
        return {"freq": ASKED_S} | counts | software

    def _tell_start(self, record: Record) -> None:
        name, arguments = task_of(record.kind), {"args": repr((record.id,)), "kwargs": "{}"}
        self._send("task-received", uuid=record.id, name=name, retries=record.attempt - 1, **arguments)
        self._send("task-started", uuid=record.id)

    def _tell_end(self, run: Record, runtime_s: float) -> None:
        revoked = partial(
            self._send, "task-revoked", uuid=run.id, terminated=True, signum=None, expired=False
        )
        try:
            now = self._ledger.get(run.id)
        except JobNotFound:  # it has ended and was deleted
            revoked()
            return
        if now.state == "succeeded":
            self._send("task-succeeded", uuid=run.id, result=now.state, runtime=runtime_s)
        elif now.state == "failed":
            error = now.error or {}
            reason = f"{error.get('code')}: {error.get('message')}"
            self._send("task-failed", uuid=run.id, exception=reason, traceback="")
        elif now.state == "canceled":
            revoked()
        else:
            self._send("task-retried", uuid=run.id, exception="another attempt follows", traceback="")

    def _send(self, kind: str, **fields: Any) -> None:
        if self._dispatcher is None:
            connection = self._app.connection_for_write()
            self._dispatcher = self._app.events.Dispatcher(
                connection, hostname=self._worker, buffer_while_offline=False
            )
        self._dispatcher.send(kind, **fields)
