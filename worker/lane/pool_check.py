"""A check of the command line: a worker must neither fork after CUDA has started, nor share its model."""

from typing import Any

from celery.concurrency.solo import TaskPool as SoloPool

from worker.jobs.errors import ConfigurationError

__all__ = ["require_solo_pool"]


def require_solo_pool(worker: Any) -> None:
    """Raise `ConfigurationError` unless the Celery worker is one process with one model.

    It refuses every pool but solo, and the options `--beat` and `--autoscale`.
    """
    if not issubclass(worker.pool_cls, SoloPool):
        name = worker.pool_cls.__module__.rsplit(".", 1)[-1]
        raise ConfigurationError(
            f"--pool {name} is refused: a GPU worker is one process with one warm model. CUDA cannot be"
            " re-initialised in a forked subprocess (prefork), and threads and greenlets would share one"
            " engine without its scheduler. Use --pool solo: its lane runs many jobs at once."
        )
    if worker.options.get("beat"):
        raise ConfigurationError(
            "--beat is refused: it would fork the worker, CUDA and all. Run `celery beat` by itself."
        )
    if worker.autoscale:
        raise ConfigurationError(
            "--autoscale is refused: a GPU worker is one process. STOKER_SLOTS says how many chats it runs."
        )
