"""The setup of the logs of Celery's workers, which Celery leaves to the function here."""

import logging
from typing import Any

from celery import signals
from celery.apps import worker

from worker.jobs.logs.setup import take_process
from worker.jobs.settings import Settings

__all__ = ["install"]

#: Loggers whose lines at INFO would cost a third of a claim. Stoker's own lines say more about each job.
_SAYS_IT_AGAIN = ("celery.worker.strategy", "celery.app.trace")

log = logging.getLogger(__name__)


def install() -> None:
    """Have a worker's logs set up before Celery writes its first line, and not by Celery."""
    signals.celeryd_init.connect(_take_process, weak=False)
    signals.setup_logging.connect(_leave_as_it_is, weak=False)


def _take_process(**_: Any) -> None:
    take_process(Settings.from_env())
    vars(worker)["safe_say"] = _say
    for name in _SAYS_IT_AGAIN:
        logging.getLogger(name).setLevel(logging.WARNING)


def _leave_as_it_is(**_: Any) -> None:
    """Do nothing. Because this function is connected, Celery sets up no logs."""


def _say(message: str, *_: object) -> None:
    """Log what Celery would print past the log, such as that it shuts down. A signal handler calls this.

    That is safe: the handler writes without a buffer, and a thread may take its lock again.
    """
    log.info("%s", message)
