"""The Celery pool of a lane: it runs each task in a thread, so that the hub stays free for control."""

import logging
import threading
from collections.abc import Callable
from typing import Any

from billiard.einfo import ExceptionInfo
from celery.concurrency.base import BasePool, apply_target

from worker.jobs.daemon_threads import DaemonThreads
from worker.jobs.logs.facts import facts

__all__ = ["LanePool"]

log = logging.getLogger(__name__)


class LanePool(BasePool):
    """A pool adapter with one waiting thread for each message.

    Celery's solo pool would run a task inside the hub, which could then answer nothing until the task ends.
    `LaneTask` gives this pool to Celery's default strategy instead, so that requests keep their states.
    """

    def __init__(
        self, app: Any, slots: int, run_in_thread: Callable[[Callable[[], None]], object] | None = None
    ) -> None:
        super().__init__(limit=slots, app=app)
        #: Called when a slot becomes free after all slots were taken.
        self.on_slot_free: Callable[[], None] = lambda: None
        #: Called with the number of messages that may be in work at once, when it changes.
        self.on_limit: Callable[[int], None] = lambda limit: None
        #: Makes the hub drop its connection to the broker, and connect again.
        self.reconnect: Callable[[], None] = lambda: None
        #: Ends the command that waits for messages. Only the hub's thread may call it.
        self.stop_fetching: Callable[[], None] = lambda: None
        self._run_in_thread = run_in_thread or DaemonThreads("job").submit
        #: The messages in work, as the hub counts them. The count may lag behind the hub's for a moment.
        self._in_flight = 0
        self._lock = threading.Lock()
        # Celery starts only the worker's own pool. For a pool that is not started, Celery formats the
        # arguments of every message for a log line that nobody reads.
        self.start()

    def take_slots(self, count: int) -> None:
        """Take this many slots beyond one for each message in work, or give them back if it is negative."""
        with self._lock:
            self.limit -= count
            self.on_limit(self.limit)
        if count < 0:
            self.on_slot_free()

    @property
    def free_slots(self) -> int:
        """The number of slots that no message in work has."""
        return int(self.limit) - self._in_flight

    @property
    def is_busy(self) -> bool:
        """Whether any message is in work."""
        return self._in_flight > 0

    def on_apply(
        self,
        target: Callable[..., Any],
        args: Any = None,
        kwargs: Any = None,
        callback: Callable[[Any], Any] | None = None,
        accept_callback: Callable[[int, float], Any] | None = None,
        error_callback: Callable[[ExceptionInfo], Any] | None = None,
        correlation_id: str = "",
        **_: Any,
    ) -> None:
        """Run Celery's traced task in a thread. The hub calls this for each message."""

        def work() -> None:
            try:
                apply_target(target, args, kwargs, callback, accept_callback)
            except BaseException:  # Celery's trace missed it; the thread must serve other tasks
                log.exception("the task has met an error", extra=facts(job=correlation_id))
                if error_callback:
                    error_callback(ExceptionInfo())
            finally:
                self._release_slot()

        with self._lock:
            self._in_flight += 1
        self._run_in_thread(work)

    def _release_slot(self) -> None:
        """Count a message as done. Wake the hub only if it stopped fetching because no slot was free."""
        with self._lock:
            was_full = self._in_flight >= self.limit
            self._in_flight -= 1
        if was_full:
            self.on_slot_free()
