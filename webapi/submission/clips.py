"""Clip submission: an upload becomes a video job, whichever route it came by."""

import uuid
from collections.abc import Callable
from typing import Any

from flask import request

from webapi.services.backend import Backend
from webapi.submission.request_preferences import is_repeated, read_idempotency_key
from webapi.submission.submit import check_room, submit
from webapi.submission.uploads import receive
from worker.jobs.media.files import JobFiles
from worker.jobs.specs import JobSpec

__all__ = ["submit_clip"]


def submit_clip(
    backend: Backend,
    spec_of: Callable[[dict[str, Any], JobFiles], JobSpec],
    clip: str = "file",
    submit: Callable[..., str] = submit,
) -> str:
    """Queue the job that the form asks for, with its file of the name `clip`; the job's id.

    Raises what `receive` and `submit` raise; then no file stays.
    """
    job_id = uuid.uuid4().hex
    if not is_repeated(backend):
        check_room(backend, "video")  # before the upload
    files = backend.files(job_id)
    with receive(request, files, backend.settings, clip) as fields:
        spec = spec_of(fields, files)
        once = read_idempotency_key(spec, files.clip, files.background)
        with files.store_inputs():
            accepted = submit(backend, job_id, spec, once)
    if accepted != job_id:
        backend.remove_files(job_id)  # the job has its own
    return accepted
