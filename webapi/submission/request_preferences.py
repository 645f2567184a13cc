"""The headers `Idempotency-Key` and `Prefer: wait` (RFC 7240) of a submit."""

import hashlib
import json
import time
from contextlib import closing
from pathlib import Path

from flask import request
from werkzeug.http import parse_dict_header

from webapi.auth import access
from webapi.description.parts import parameter
from webapi.services.backend import Backend
from webapi.services.follow import follow
from webapi.services.system_threads import call_in_thread
from webapi.tracing.request_trace import TRACE_HEADERS
from worker.jobs.errors import InvalidInput
from worker.jobs.ledger.ledger import IdempotencyKey
from worker.jobs.specs import JobSpec

__all__ = [
    "IDEMPOTENCY",
    "PREFERENCES",
    "is_repeated",
    "preferred_wait_s",
    "read_idempotency_key",
    "read_idempotency_text",
    "wait_for_end",
]

MAX_KEY_LENGTH = 255
#: Longest wait that a request can ask for, in seconds. Connections do not last longer reliably.
MAX_WAIT_S = 600

#: The descriptions of the headers. OpenAI's routes do not know `Prefer`.
IDEMPOTENCY = (
    *TRACE_HEADERS,
    parameter(
        "Idempotency-Key",
        "Requests with the same key and the same body create one job. "
        "The same key with another body is refused with status 422.",
        type="string",
        minLength=1,
        maxLength=MAX_KEY_LENGTH,
    ),
)
PREFERENCES = (
    *IDEMPOTENCY,
    parameter(
        "Prefer",
        "`wait=N`: the response is sent when the job has ended, at the latest after N seconds (RFC 7240).",
    ),
)


def read_idempotency_key(spec: JobSpec, *files: Path) -> IdempotencyKey | None:
    """Return the request's idempotency key with its fingerprint, or None without `Idempotency-Key`.

    Requests with the same key and fingerprint make one job. The fingerprint is a hash of the route, of the
    validated body and of those uploaded files that exist.

    Raises `InvalidInput` if the key is empty or too long.
    """
    key = read_idempotency_text()
    if key is None:
        return None
    # Sorted and without defaults, because the API of another release may have other fields in another order.
    fields = json.dumps(spec.model_dump(exclude_defaults=True), sort_keys=True)
    body = hashlib.sha256(f"{request.path}\n{fields}".encode())
    for path in files:
        if path.exists():
            body.update(call_in_thread(_digest, path))
    return IdempotencyKey(key, body.hexdigest())


def read_idempotency_text() -> str | None:
    """Return the request's idempotency key, or None. Raises `InvalidInput` as `read_idempotency_key` does."""
    key = request.headers.get("Idempotency-Key")
    if key is not None and not 0 < len(key) <= MAX_KEY_LENGTH:
        raise InvalidInput("Idempotency-Key", f"must have 1 to {MAX_KEY_LENGTH} characters")
    return key


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def is_repeated(backend: Backend) -> bool:
    """Return whether the request's `Idempotency-Key` has made a job of this caller before."""
    key = request.headers.get("Idempotency-Key")
    return key is not None and backend.ledger.has_job_for(access.owner(), key)


def preferred_wait_s() -> int | None:
    """Return N of `Prefer: wait=N`, at most `MAX_WAIT_S`.

    Returns None without the preference. A value that is not a number is ignored too, as RFC 7240 asks.
    """
    wait = parse_dict_header(request.headers.get("Prefer", "")).get("wait") or ""
    digits = wait.lstrip("0") or "0"  # int() refuses more than 4300 digits
    if not wait.isascii() or not wait.isdigit():
        return None
    return MAX_WAIT_S if len(digits) > len(str(MAX_WAIT_S)) else min(int(digits), MAX_WAIT_S)


def wait_for_end(backend: Backend, job_id: str, wait_s: float) -> None:
    """Wait until the job has ended, for `wait_s` seconds at most."""
    deadline = time.monotonic() + wait_s
    with closing(follow(backend, job_id, 0, idle_s=min(wait_s, 1.0))) as events:
        for _ in events:
            if time.monotonic() >= deadline:
                return
