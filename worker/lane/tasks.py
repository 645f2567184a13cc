"""The Celery tasks, one for each kind of job. The message of a task names a job, which the lane then runs."""

from worker.jobs.broker import app
from worker.jobs.kinds import KINDS, task_of
from worker.lane.celery_task import LaneTask, sent_record

__all__ = ["run_job"]


def run_job(self: LaneTask, job_id: str) -> str:
    """Run a job. Return the outcome for Celery's log."""
    return self.lane.run_job(job_id, sent_record(job_id, self.request))


for name in KINDS:
    app.task(base=LaneTask, bind=True, name=task_of(name))(run_job)
