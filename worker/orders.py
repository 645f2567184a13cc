"""Orders: what a worker is told by signals."""

import signal
from typing import Any

from celery import signals

__all__ = ["Orders"]


class Orders:
    """SIGTERM and SIGHUP say to end, a second one at once; a SIGHUP that was ignored (nohup) stays so.

    Made before Celery has its handlers, and in effect from `listen` on. Celery would answer SIGHUP by running
    itself anew, in an environment that is pinned and marked for the worker that has ended.
    """

    def __init__(self) -> None:
        self._count = 0
        self._ignores_hangup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN

    def listen(self) -> None:
        """Take SIGHUP from Celery, and count; called in the main thread."""
        handler = signal.SIG_IGN if self._ignores_hangup else signal.getsignal(signal.SIGTERM)
        signal.signal(signal.SIGHUP, handler)
        signals.worker_shutting_down.connect(self._on_order, weak=False)

    @property
    def hurry(self) -> bool:
        """Whether the worker is to end at once."""
        return self._count > 1

    def _on_order(self, **_: Any) -> None:
        self._count += 1
