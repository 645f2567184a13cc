"""The handling of the signals that end a worker."""

import os
import signal
from collections.abc import Callable
from typing import Any

from celery import signals
from celery.platforms import EX_FAILURE, EX_OK

__all__ = ["ShutdownSignals"]


class ShutdownSignals:
    """The handling of SIGTERM, SIGINT and SIGHUP: the first requests a drain, the second an immediate stop.

    SIGHUP stays ignored if it was ignored at the start, as under nohup. Create this object in the main thread
    before Celery installs its handlers. Until `install` is called the worker has nothing to drain: a signal
    then calls `before_exit` and raises SystemExit in the main thread.
    """

    def __init__(self, before_exit: Callable[[], None]) -> None:
        self._before_exit = before_exit
        self._pid = os.getpid()
        self._count = 0
        self._ignores_hangup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        self._handle(self._on_early_signal, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

    def install(self) -> None:
        """Drain on a signal from now on: give SIGINT and SIGHUP Celery's handler of SIGTERM. Count signals.

        With Celery's own handlers, Ctrl-C would end the worker with an error code. A SIGHUP would make it
        execute itself again, in an environment that is pinned and marked for the process that has ended.
        """
        self._handle(signal.getsignal(signal.SIGTERM), signal.SIGINT, signal.SIGHUP)
        signals.worker_shutting_down.connect(self._on_signal, weak=False)

    @property
    def forced(self) -> bool:
        """True after a second signal: the worker must stop at once."""
        return self._count > 1

    def _handle(self, handler: Any, *numbers: signal.Signals) -> None:
        for number in numbers:
            ignored = number == signal.SIGHUP and self._ignores_hangup
            signal.signal(number, signal.SIG_IGN if ignored else handler)

    def _on_signal(self, **_: Any) -> None:
        self._count += 1

    def _on_early_signal(self, *_: object) -> None:
        if os.getpid() != self._pid:  # this is a fork that inherited the handler: the worker goes on
            os._exit(EX_FAILURE)
        self._before_exit()
        raise SystemExit(EX_OK)
