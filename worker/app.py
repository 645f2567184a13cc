"""The worker's Celery app: `celery -A worker.app worker --pool solo`, as `stoker worker` starts it."""

from worker import tasks  # noqa: F401  # registers them
from worker.jobs.broker import app
from worker.lifecycle import Lifecycle

__all__ = ["app"]

app.steps["worker"].add(Lifecycle)
