"""Ownership: the caller of the current request, and the jobs that the caller may see."""

from flask import g

from webapi.services.backend import current_backend
from worker.jobs.errors import JobNotFound
from worker.jobs.records import Record

__all__ = ["job", "owner"]


def owner() -> str:
    """Return the id of the caller's API key, or an empty string if the API requires no key."""
    return str(g.get("owner", ""))


def job(job_id: str) -> Record:
    """Return the caller's job. Raises `JobNotFound`, also for the jobs of other callers."""
    record = current_backend().ledger.get(job_id)
    if record.owner != owner():
        raise JobNotFound(f"there is no job {job_id}")
    return record
