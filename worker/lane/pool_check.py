"""Forks: ways of starting a worker that would fork after CUDA, or share its model, are refused."""

from typing import Any

from celery.concurrency.solo import TaskPool as SoloPool

from worker.jobs.errors import ConfigurationError

__all__ = ["require_solo_pool"]


def require_solo_pool(worker: Any) -> None:
    """Raise `ConfigurationError` for a Celery worker that is not one process with one model."""
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
