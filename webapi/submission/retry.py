"""The repetition of an ended job as a new one."""

from collections.abc import Iterator
from contextlib import contextmanager

from webapi.services.backend import Backend
from webapi.submission.request_preferences import read_idempotency_key
from webapi.submission.submit import submit
from worker.jobs.errors import JobConflict
from worker.jobs.ids import new_job_id
from worker.jobs.kinds import has_files
from worker.jobs.records import Record
from worker.jobs.trace_context import TraceContext

__all__ = ["retry"]


def retry(backend: Backend, record: Record) -> str:
    """Submit a failed or canceled job of the caller again, and return the id of the new job.

    Raises `JobConflict` if the job has another state, or if its upload is gone. Raises `Unsupported` if only
    a newer version of Stoker can read the job, and the errors of `submit`.
    """
    if record.state not in ("failed", "canceled"):
        raise JobConflict(f"the job is {record.state}; only a failed or canceled job can be repeated")
    job_id, key = new_job_id(), read_idempotency_key(record.spec)
    with _taken_inputs(backend, record, job_id) as file_bytes:
        cause = TraceContext.parse(record.trace)
        accepted = submit(backend, job_id, record.spec, key, file_bytes, record.id, cause=cause)
    if accepted != job_id and has_files(record.kind):
        backend.remove_files(job_id)  # an earlier request has made the new job, with files of its own
    return accepted


@contextmanager
def _taken_inputs(backend: Backend, record: Record, job_id: str) -> Iterator[int]:
    """Give the new job the inputs of the old one, and yield their bytes.

    They are removed again if the block raises, as for an upload.
    """
    if not has_files(record.kind):
        yield 0
        return
    files = backend.files(job_id)
    with files.for_upload(), files.store_inputs():
        try:
            file_bytes = files.take_inputs(backend.files(record.id))
        except FileNotFoundError:
            raise JobConflict("the job's upload is gone; submit the job with its file again") from None
        yield file_bytes
