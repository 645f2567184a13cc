"""Submission of video jobs with their clips, for the native and the OpenAI routes."""

from collections.abc import Callable
from functools import partial

from flask import request

from webapi.auth import access
from webapi.services.backend import Backend
from webapi.submission.clip_form import ClipForm, VideoRequest
from webapi.submission.request_preferences import is_repeated, read_idempotency_key
from webapi.submission.slots import upload_slot
from webapi.submission.submit import check_room, submit
from webapi.submission.uploads import full_disk_refused, place, probe, receive
from worker.jobs.ids import new_job_id
from worker.jobs.media.files import JobFiles
from worker.jobs.media.probe.clip_info import ClipInfo
from worker.jobs.settings import Settings
from worker.jobs.specs import VideoJob

__all__ = ["submit_clip"]


def submit_clip(
    backend: Backend,
    form: ClipForm,
    complete: Callable[[VideoRequest, ClipInfo], VideoJob] = lambda read, _: read.spec,
    submit: Callable[..., str] = submit,
) -> str:
    """Submit the video job of the current request's form, and return its id.

    `complete` returns the request's spec, with what only the clip tells. `submit` submits the job, as
    `webapi.submission.submit.submit` does.

    Raises `TooManyUploads`, and the errors of `receive`, of `ClipForm.read`, of `probe` and of `submit`. The
    received files are deleted then.
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
        receive(request, files, backend.settings, partial(form.check, backend)) as parts,
    ):
        read = form.read(backend, parts)
        spec = complete(read, _store(read, form.clip, files, backend.settings))
        key = read_idempotency_key(spec, *files.inputs)
        with files.store_inputs():
            accepted = submit(backend, job_id, spec, key, files.input_bytes)
    if accepted != job_id:
        backend.remove_files(job_id)  # an earlier request made the job, with files of its own
    return accepted


def _store(read: VideoRequest, field: str, files: JobFiles, settings: Settings) -> ClipInfo:
    """Check the clip and the pictures, move all files to their places, and return the clip's properties."""
    found = probe(field, read.clip, settings)
    for name in read.pictures:
        probe(name, read.uploads[name], settings, picture=True)
    place(read.clip, files.clip)
    for name, path in read.uploads.items():
        place(path, files.upload(name))
    return found
