"""The Celery tasks. The message of each one names a job, which the lane then runs."""

from worker.jobs.broker import app
from worker.jobs.kinds import TASKS
from worker.lane.celery_task import LaneTask

__all__ = ["chat", "video"]


@app.task(base=LaneTask, bind=True, name=TASKS["chat"])
def chat(self: LaneTask, job_id: str) -> str:
    """Run a chat job. Return the outcome for Celery's log."""
    return self.lane.run_job(job_id)


@app.task(base=LaneTask, bind=True, name=TASKS["video"])
def video(self: LaneTask, job_id: str) -> str:
    """Run a video job. Return the outcome for Celery's log."""
    return self.lane.run_job(job_id)
