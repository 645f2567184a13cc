"""The errors that end a program, each as one sentence: the cause first, then the way out."""

import re

from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    NoPermissionError,
    RedisError,
    ResponseError,
)

from worker.jobs import system_errors
from worker.jobs.errors import StokerError

__all__ = ["EXPECTED", "sentence"]

#: The errors that need no traceback.
EXPECTED = (StokerError, RedisError, OSError)


def sentence(error: Exception) -> str:
    """Return what went wrong, and what the user can do about it."""
    if not isinstance(error, RedisError):
        return system_errors.sentence(error)
    reason = re.sub(r"^Error -?[0-9]+ | : <redis.*", "", str(error)).rstrip(".").replace(". ", ": ")
    if isinstance(error, NoPermissionError):
        return f"the user of Redis lacks a right: {reason}: see Access to Redis in docs/deployment.md"
    if isinstance(error, AuthenticationError | AuthorizationError):
        return f"Redis refuses the login: {reason}: check STOKER_REDIS_URL and STOKER_REDIS_PASSWORD"
    if isinstance(error, ResponseError):
        return f"Redis refuses the command: {reason}"
    return f"Redis does not answer: {reason}: start it, or set STOKER_REDIS_URL (`stoker up` has its own)"
