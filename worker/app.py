"""The worker's Celery app: `celery -A worker.app worker --pool solo`, as `stoker worker` starts it."""

from worker.jobs.broker import app
from worker.lane import tasks  # noqa: F401  # registers them
from worker.process.lifecycle import Lifecycle

__all__ = ["app"]

app.steps["worker"].add(Lifecycle)
