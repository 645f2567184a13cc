"""ShutdownSignals: what a worker is told by signals."""

import os
import signal
from collections.abc import Callable
from typing import Any

from celery import signals
from celery.platforms import EX_FAILURE, EX_OK

__all__ = ["ShutdownSignals"]


class ShutdownSignals:
    """SIGTERM, Ctrl-C and SIGHUP say to end, a second one at once; a SIGHUP stays ignored that was (nohup).

    Made in the main thread, before Celery has its handlers. Until `listen` there is nothing to drain: then
    `leave` is called, and SystemExit raised in whatever the main thread does.
    """

    def __init__(self, leave: Callable[[], None]) -> None:
        self._leave = leave
        self._pid = os.getpid()
        self._count = 0
        self._ignores_hangup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        self._handle(self._on_early, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

    def install(self) -> None:
        """Drain from now on, and count.

        To Celery an end by Ctrl-C is a failure, and on SIGHUP it would run itself anew: in an environment
        that is pinned and marked for the worker that has ended.
        """
        self._handle(signal.getsignal(signal.SIGTERM), signal.SIGINT, signal.SIGHUP)
        signals.worker_shutting_down.connect(self._on_signal, weak=False)

    @property
    def forced(self) -> bool:
        """Whether the worker is to end at once."""
        return self._count > 1

    def _handle(self, handler: Any, *numbers: signal.Signals) -> None:
        for number in numbers:
            ignored = number == signal.SIGHUP and self._ignores_hangup
            signal.signal(number, signal.SIG_IGN if ignored else handler)

    def _on_signal(self, **_: Any) -> None:
        self._count += 1

    def _on_early(self, *_: object) -> None:
        if os.getpid() != self._pid:  # a fork that was ended: the worker goes on
            os._exit(EX_FAILURE)
        self._leave()
        raise SystemExit(EX_OK)
