"""The Celery app of a worker. `stoker worker` runs `celery -A worker.app worker --pool solo`."""

from worker.jobs.broker import app
from worker.lane import tasks  # noqa: F401  # registers the tasks
from worker.process.lifecycle import Lifecycle

__all__ = ["app"]

app.steps["worker"].add(Lifecycle)
