"""The audit log: one line of JSON for each submit, refused request and use of a key."""

import json
import logging
import time

from flask import request

from webapi.auth import access
from webapi.services import request_ids
from worker.jobs.records import rfc3339

__all__ = ["log", "logger"]

#: Its lines are logged whatever STOKER_LOG_LEVEL says, see `create_app`.
logger = logging.getLogger("stoker.audit")

#: Characters of a path that are logged, because a client chooses its length.
_PATH_LENGTH = 200


def log(action: str, **fields: object) -> None:
    """Log that the caller of the current request did `action`. Fields that are None are left out.

    The line never has the query or the headers of the request, which may contain a key or a token. JSON
    escapes control characters, so a client cannot start a line of its own.
    """
    key = access.key()
    line = {
        "time": rfc3339(time.time()),
        "action": action,
        "key": key and key.id,
        "name": key and key.name,
        "address": request.remote_addr,
        "method": request.method,
        "path": request.path[:_PATH_LENGTH],
        "request_id": request_ids.current(),
        **fields,
    }
    logger.info(json.dumps({name: value for name, value in line.items() if value is not None}))
