"""The ids of jobs: 32 hexadecimal digits, and nothing else."""

import re
import uuid

from worker.jobs.errors import InvalidJobId

__all__ = ["checked_job_id", "is_job_id", "new_job_id"]


def new_job_id() -> str:
    """Return a new, random id."""
    return uuid.uuid4().hex


def is_job_id(text: str) -> bool:
    """Return whether the text is a job id."""
    return re.fullmatch("[0-9a-f]{32}", text) is not None


def checked_job_id(text: str) -> str:
    """Return the id. Raises `InvalidJobId` if it is not one.

    Ids come from Redis, from messages and from URLs. Each id is checked before it becomes part of a path or
    of an object's key, because a text such as `/home` or `..` would name files that are not the job's.
    """
    if not is_job_id(text):
        raise InvalidJobId(f"{text[:64]!r} is not a job id")
    return text
