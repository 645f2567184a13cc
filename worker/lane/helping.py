"""Helping: a worker without jobs computes a part of another worker's job."""

import logging
import threading
from collections.abc import Callable
from typing import Protocol, runtime_checkable

from redis.exceptions import RedisError

from worker.lane.lane import Lane

__all__ = ["Helper", "Helping"]

log = logging.getLogger(__name__)

#: Seconds between two looks for a job that wants help.
PAUSE_S = 1.0


@runtime_checkable
class Helper(Protocol):
    """A runner that can help with the jobs of other workers."""

    def help(
        self, queue: str, worker: str, device: str, go_on: Callable[[], bool], stopping: threading.Event
    ) -> bool:
        """Help with a job of the queue under this name. Return whether there was one.

        The helper begins no new part of the job when `go_on` returns False. It ends at once when `stopping`
        is set.
        """


class Helping:
    """The thread of an idle worker that helps. It ends its part of a job when the lane has a job."""

    def __init__(self, lane: Lane, queue: str, helper: object, pause_s: float = PAUSE_S) -> None:
        self._lane = lane
        self._queue = queue
        self._helper = helper if isinstance(helper, Helper) else None
        self._pause_s = pause_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="helper", daemon=True)

    def start(self) -> None:
        """Start the thread, if the runner can help."""
        if self._helper:
            self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """End the help at once. Wait for that for at most `timeout_s` seconds."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _loop(self) -> None:
        pause_s = self._pause_s
        while not self._stopping.wait(pause_s):
            pause_s = 0.0 if self._lane.is_idle and self._help() else self._pause_s

    def _help(self) -> bool:
        lane = self._lane
        try:
            with lane.not_beside_exclusive_job():
                return self._helper is not None and self._helper.help(
                    self._queue, lane.worker, lane.device, lambda: lane.is_idle, self._stopping
                )
        except RedisError as error:
            log.warning("no help for others: %s", error)
        except Exception:
            log.exception("this worker has failed to help")
        return False
