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
    """Have the logs of Celery's programs set up by `take_process`, of workers before their first line."""
    for signal in (signals.celeryd_init, signals.setup_logging):
        signal.connect(_take_process, weak=False)


def _take_process(**_: Any) -> None:
    take_process(Settings.from_env())
    vars(worker)["safe_say"] = _say
    for name in _SAYS_IT_AGAIN:
        logging.getLogger(name).setLevel(logging.WARNING)


def _say(message: str, *_: object) -> None:
    """Log what Celery would print past the log, such as that it shuts down. A signal handler calls this.

    That is safe: the handler writes without a buffer, and a thread may take its lock again.
    """
    log.info("%s", message)
