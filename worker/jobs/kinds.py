"""The kinds of jobs, and the names of their Celery tasks and queues."""

__all__ = ["TASKS", "kind_of", "queue_of"]


#: Task name by kind of job; the API submits by name and needs no worker code.
TASKS = {"chat": "stoker.chat", "video": "stoker.video"}


def queue_of(kind: str, model: str) -> str:
    """The queue of a model's jobs."""
    return f"{kind}.{model}"


def kind_of(queue: str) -> str:
    """The kind of the queue's jobs."""
    return queue.partition(".")[0]
