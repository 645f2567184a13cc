"""The audit log: one line of JSON for each submit, refused request and use of a key."""

import logging
import time

from flask import has_request_context, request

from webapi.auth import access
from webapi.services import request_ids
from worker.jobs.logs.facts import Facts
from worker.jobs.records import rfc3339

__all__ = ["log", "logger"]

#: Its lines are logged whatever STOKER_LOG_LEVEL says, see `create_app`.
logger = logging.getLogger("stoker.audit")

#: Characters of a path that are logged, because a client chooses its length.
_PATH_LENGTH = 200


def _request() -> dict[str, object]:
    return {
        "address": request.remote_addr,
        "method": request.method,
        "path": request.path[:_PATH_LENGTH],
        "request_id": request_ids.current(),
    }


def log(action: str, **fields: object) -> None:
    """Log that the caller of the current request, or of the batch, did `action`. None is left out.

    The line never has the query or the headers of the request, which may contain a key or a token. JSON
    escapes control characters, so a client cannot start a line of its own.
    """
    key = access.key()
    line = {
        "time": rfc3339(time.time()),
        "action": action,
        "key": key and key.id,
        "name": key and key.name,
        **(_request() if has_request_context() else {}),
        **fields,
    }
    logger.info(Facts(action, {name: value for name, value in line.items() if value is not None}))
