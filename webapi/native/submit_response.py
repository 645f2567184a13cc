"""The response to a submit of the native API."""

from contextlib import suppress

from flask import request
from flask.typing import ResponseReturnValue

from webapi.auth import access
from webapi.description.parts import header
from webapi.description.route import AnswerSpec
from webapi.documents.jobs import JobDocument
from webapi.services.backend import current_backend
from webapi.submission.request_preferences import preferred_wait_s, wait_for_end
from worker.jobs.errors import TooManyStreams

__all__ = ["SUBMITTED", "SUBMIT_ERRORS", "submit_response"]

#: Error statuses of a submit, besides those of every route.
SUBMIT_ERRORS = (400, 408, 413, 415, 422, 429)
APPLIED = {
    "Location": header("The URL of the job.", format="uri-reference"),
    "Preference-Applied": header(
        "The preference that the server applied.", required=False, pattern=r"^wait=\d+$"
    ),
}
SUBMITTED = {
    202: AnswerSpec("The job is queued or running.", JobDocument, APPLIED),
    200: AnswerSpec(
        "The job has ended: the request waited for it, or an earlier request with the same key created it.",
        JobDocument,
        APPLIED,
    ),
}


def submit_response(job_id: str) -> ResponseReturnValue:
    """Return the response to a submit: the job's document, its status and its headers.

    A client that prefers to wait gets the job when it has ended, or as it stands when the wait is over. The
    status is 200 for an ended job if the client waits or sends an idempotency key, and 202 otherwise.
    """
    headers = {"Location": f"{request.script_root}/v1/jobs/{job_id}"}
    repeatable = "Idempotency-Key" in request.headers
    if wait_s := preferred_wait_s():
        with suppress(TooManyStreams):  # a wait is only a preference
            current_backend().streams.count(access.owner())
            wait_for_end(current_backend(), job_id, wait_s)
            headers["Preference-Applied"] = f"wait={wait_s}"
    record = current_backend().ledger.get(job_id)
    status = 200 if record.terminal and (wait_s or repeatable) else 202
    return JobDocument.from_record(record, request.script_root).model_dump(), status, headers
