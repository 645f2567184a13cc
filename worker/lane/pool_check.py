"""Forks: ways of starting a worker that would fork after CUDA, or share its model, are refused."""

from typing import Any

from celery.concurrency.solo import TaskPool as SoloPool

from worker.jobs.errors import BadSettings

__all__ = ["refuse_forks"]


def refuse_forks(worker: Any) -> None:
    """Raise `BadSettings` for a Celery worker that is not one process with one model."""
    if not issubclass(worker.pool_cls, SoloPool):
        name = worker.pool_cls.__module__.rsplit(".", 1)[-1]
        raise BadSettings(
            f"--pool {name} is refused: a GPU worker is one process with one warm model. CUDA cannot be"
            " re-initialised in a forked subprocess (prefork), and threads and greenlets would share one"
            " engine without its scheduler. Use --pool solo: its lane runs many jobs at once."
        )
    if worker.options.get("beat"):
        raise BadSettings(
            "--beat is refused: it would fork the worker, CUDA and all. Run `celery beat` by itself."
        )
    if worker.autoscale:
        raise BadSettings(
            "--autoscale is refused: a GPU worker is one process. STOKER_SLOTS says how many chats it runs."
        )
