"""Submission of video jobs with their clips, for the native and the OpenAI routes."""

from collections.abc import Callable

from flask import request

from webapi.auth import access
from webapi.services.backend import Backend
from webapi.submission.request_preferences import is_repeated, read_idempotency_key
from webapi.submission.slots import upload_slot
from webapi.submission.submit import check_room, submit
from webapi.submission.uploads import Upload, full_disk_refused, receive
from worker.jobs.ids import new_job_id
from worker.jobs.specs import JobSpec, VideoJob

__all__ = ["submit_clip"]


def submit_clip(
    backend: Backend,
    make_spec: Callable[[Upload], JobSpec],
    clip: str = "file",
    submit: Callable[..., str] = submit,
) -> str:
    """Submit the video job of the current request's form, and return its id.

    `clip` is the name of the form's field with the clip. `make_spec` makes the job's spec from the upload.
    `submit` submits it, as `webapi.submission.submit.submit` does.

    Raises `TooManyUploads`, and the errors of `receive` and of `submit`. The received files are deleted then.
    """
    job_id = new_job_id()
    if not is_repeated(backend):
        # Refuse before a long upload, not after it. `receive` refuses one that is longer than allowed.
        length = min(request.content_length or 0, backend.settings.max_upload_bytes)
        check_room(backend, VideoJob.kind, length)
    files = backend.files(job_id)
    with (
        full_disk_refused(),
        upload_slot(backend.settings, access.owner()),
        receive(request, files, backend.settings, clip) as upload,
    ):
        spec = make_spec(upload)
        key = read_idempotency_key(spec, files.clip, files.background)
        with files.store_inputs():
            accepted = submit(backend, job_id, spec, key, files.input_bytes)
    if accepted != job_id:
        backend.remove_files(job_id)  # an earlier request made the job, with files of its own
    return accepted
