"""The tasks: a hint comes in, the lane runs the job it names."""

from worker.jobs.broker import app
from worker.jobs.kinds import TASKS
from worker.lane.celery_task import LaneTask

__all__ = ["chat", "video"]


@app.task(base=LaneTask, bind=True, name=TASKS["chat"])
def chat(self: LaneTask, job_id: str) -> str:
    """Continue a conversation."""
    return self.lane.run(job_id)


@app.task(base=LaneTask, bind=True, name=TASKS["video"])
def video(self: LaneTask, job_id: str) -> str:
    """Put a clip through the model."""
    return self.lane.run(job_id)
