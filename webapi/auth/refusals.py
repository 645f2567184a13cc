"""Logs refused requests in the audit log."""

import time
from contextlib import suppress

from flask import Flask, Response, request

from webapi.auth import access, audit
from webapi.keys import key_text
from webapi.services.log_limiter import LineBudget
from worker.jobs.errors import Unauthorized

__all__ = ["register"]

#: The statuses of refusals: no valid key, a scope that is missing, a cap that is reached.
REFUSED = (401, 403, 429)


def register(app: Flask) -> None:
    """Log the refused requests of the app: a limited number for each key, so that they cannot fill a disk."""
    budget = LineBudget()

    @app.after_request
    def log_refusal(response: Response) -> Response:
        if response.status_code in REFUSED:
            left_out = budget.take(access.owner(), time.monotonic())
            if left_out is not None:
                status, claimed = response.status_code, _claimed_key()
                audit.log("request_refused", status=status, claimed_key=claimed, left_out=left_out or None)
        return response


def _claimed_key() -> str | None:
    """Return the id in the text of a refused key. Every caller can claim every id."""
    with suppress(Unauthorized, ValueError):  # ValueError: a Basic header that is not ASCII
        if access.key() is None and request.authorization:
            return key_text.parse(request.authorization.token or "")[0]
    return None
