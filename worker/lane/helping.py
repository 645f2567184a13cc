"""Helping: a worker without jobs computes a part of another worker's job."""

import logging
import threading
from collections.abc import Callable
from typing import Protocol, runtime_checkable

from redis.exceptions import RedisError

from worker.jobs.ledger.announcements import Topic
from worker.lane.lane import Lane

__all__ = ["Helper", "Helping"]

log = logging.getLogger(__name__)

#: Seconds between two looks while this worker has a job, or while jobs want help but not its own.
PAUSE_S = 1.0


@runtime_checkable
class Helper(Protocol):
    """A runner that can help with the jobs of other workers."""

    def is_wanted(self, queue: str) -> bool:
        """Return whether a job of the queue wants help. Raises `RedisError`."""

    def help(
        self, queue: str, worker: str, device: str, go_on: Callable[[], bool], stopping: threading.Event
    ) -> bool:
        """Help with a job of the queue under this name. Return whether there was one.

        The helper begins no new part of the job when `go_on` returns False. It ends at once when `stopping`
        is set.
        """


class Helping:
    """The thread of an idle worker that helps. It ends its part of a job when the lane has a job.

    A job that wants help announces it. `longest_pause_s` is the time between two looks without one.
    """

    def __init__(
        self,
        lane: Lane,
        queue: str,
        helper: object,
        offers: Topic,
        longest_pause_s: float,
        pause_s: float = PAUSE_S,
    ) -> None:
        self._lane = lane
        self._queue = queue
        self._helper = helper if isinstance(helper, Helper) else None
        self._offers = offers
        self._pause_s, self._longest_pause_s = pause_s, longest_pause_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="helper", daemon=True)

    def start(self) -> None:
        """Start the thread, if the runner can help."""
        if self._helper:
            self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """End the help at once. Wait for that for at most `timeout_s` seconds."""
        self._stopping.set()
        self._offers.wake()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _loop(self) -> None:
        while not self._stopping.is_set():
            self._offers.wait(self._help() if self._lane.is_idle else self._pause_s)

    def _help(self) -> float:
        """Help with one job if one wants it. Return the time until the next look, in seconds."""
        lane, helper = self._lane, self._helper
        try:
            if helper is None or not helper.is_wanted(self._queue):
                return self._longest_pause_s
            with lane.not_beside_exclusive_job():
                if helper.help(self._queue, lane.worker, lane.device, lambda: lane.is_idle, self._stopping):
                    return 0.0
        except RedisError as error:
            log.warning("no help for others: %s", error)
        except Exception:
            log.exception("this worker has failed to help")
        return self._pause_s
