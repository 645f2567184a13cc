"""Access: the caller's key in the current request, its scopes, and the jobs that the caller may see."""

from flask import g

from webapi.keys.key import Key, Scope
from webapi.services.backend import current_backend
from worker.jobs.errors import JobNotFound
from worker.jobs.records import Record

__all__ = ["job", "key", "may", "owner"]


def key() -> Key | None:
    """Return the caller's API key, or None if the API requires no key."""
    found: Key | None = g.get("key")
    return found


def owner() -> str:
    """Return the id of the caller's API key, or an empty string if the API requires no key."""
    found = key()
    return found.id if found else ""


def may(scope: Scope) -> bool:
    """Return whether the caller's key has this scope. Without keys every caller has all scopes."""
    found = key()
    return found is None or scope in found.scopes


def job(job_id: str) -> Record:
    """Return the caller's job. Raises `JobNotFound`, also for the jobs of other callers."""
    record = current_backend().ledger.get(job_id)
    if record.owner != owner():
        raise JobNotFound(f"there is no job {job_id}")
    return record
