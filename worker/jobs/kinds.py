"""The kinds of jobs, and the names of their Celery tasks and queues."""

__all__ = ["TASKS", "kind_of", "model_of", "queue_of"]

#: Celery task by kind of job. Messages are sent by task name, so the API imports no code of a task.
TASKS = {"chat": "stoker.chat", "video": "stoker.video"}


def queue_of(kind: str, model: str) -> str:
    """Return the name of the queue for jobs of this kind and model."""
    return f"{kind}.{model}"


def kind_of(queue: str) -> str:
    """Return the kind of the jobs in this queue."""
    return queue.partition(".")[0]


def model_of(queue: str) -> str:
    """Return the model of the jobs in this queue."""
    return queue.partition(".")[2]
