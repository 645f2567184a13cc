"""Access: who calls, and which jobs are theirs to see."""

from flask import g

from webapi.services.backend import current_backend
from worker.jobs.errors import JobNotFound
from worker.jobs.records import Record

__all__ = ["job", "owner"]


def owner() -> str:
    """Id of the caller's API key; empty when the API asks for none."""
    return str(g.get("owner", ""))


def job(job_id: str) -> Record:
    """The caller's job. Raises `JobNotFound`, for the jobs of others too."""
    record = current_backend().ledger.get(job_id)
    if record.owner != owner():
        raise JobNotFound(f"there is no job {job_id}")
    return record
