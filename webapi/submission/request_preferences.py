"""Preferences: what a submit's headers ask for, `Idempotency-Key` and `Prefer: wait` (RFC 7240)."""

import hashlib
import time
from contextlib import closing
from pathlib import Path

from flask import request
from werkzeug.http import parse_dict_header

from webapi.auth import access
from webapi.services.backend import Backend
from webapi.services.follow import follow
from worker.jobs.errors import InvalidInput
from worker.jobs.ledger.ledger import IdempotencyKey
from worker.jobs.specs import JobSpec

__all__ = ["is_repeated", "preferred_wait_s", "read_idempotency_key", "wait_for_end"]

MAX_KEY_LENGTH = 255
#: Nobody's connection is to be trusted for longer.
MAX_WAIT_S = 600


def read_idempotency_key(spec: JobSpec, *files: Path) -> IdempotencyKey | None:
    """What makes equal requests of one `Idempotency-Key` one job; None without the header.

    The fingerprint covers the route, the validated body and the uploaded files that exist.
    """
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return None
    if not 0 < len(key) <= MAX_KEY_LENGTH:
        raise InvalidInput("Idempotency-Key", f"must have 1 to {MAX_KEY_LENGTH} characters")
    body = hashlib.sha256(f"{request.path}\n{spec.model_dump_json()}".encode())
    for path in files:
        if path.exists():
            with path.open("rb") as file:
                body.update(hashlib.file_digest(file, "sha256").digest())
    return IdempotencyKey(key, body.hexdigest())


def is_repeated(backend: Backend) -> bool:
    """Whether the caller has sent an `Idempotency-Key` that has made a job."""
    key = request.headers.get("Idempotency-Key")
    return key is not None and backend.ledger.has_job_for(access.owner(), key)


def preferred_wait_s() -> int | None:
    """N of `Prefer: wait=N`; None without it, or for what is no number: such preferences are ignored."""
    wait = parse_dict_header(request.headers.get("Prefer", "")).get("wait") or ""
    digits = wait.lstrip("0") or "0"  # Python refuses to make a number of thousands
    if not wait.isascii() or not wait.isdigit():
        return None
    return MAX_WAIT_S if len(digits) > len(str(MAX_WAIT_S)) else min(int(digits), MAX_WAIT_S)


def wait_for_end(backend: Backend, job_id: str, wait_s: float) -> None:
    """Return when the job has ended, or after `wait_s` seconds."""
    deadline = time.monotonic() + wait_s
    with closing(follow(backend, job_id, 0, idle_s=min(wait_s, 1.0))) as events:
        for _ in events:
            if time.monotonic() >= deadline:
                return
