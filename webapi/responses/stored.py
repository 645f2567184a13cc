"""Responses that are stored, and the conversations that later ones continue."""

from collections import deque
from contextlib import suppress
from typing import Any

from webapi.auth import access
from webapi.responses.fold import ResponseFold
from webapi.responses.input_items import InputItem, to_messages
from webapi.responses.job import ResponseJob, read_job
from webapi.services.backend import Backend
from worker.jobs.errors import Forbidden, InvalidInput, JobNotFound, PreviousResponseNotFound
from worker.jobs.records import Record
from worker.jobs.specs import validate

__all__ = ["conversation_after", "find_response", "response_of"]

PREFIX = "resp_"
FIELD = "previous_response_id"


def find_response(response_id: str) -> tuple[Record, ResponseJob]:
    """Return the record and the job of the caller's response.

    Raises `JobNotFound`, also for responses of other callers, and for those that must not be stored.
    """
    with suppress(JobNotFound):
        record = access.job(response_id.removeprefix(PREFIX))
        job = read_job(record)
        if job and response_id.startswith(PREFIX):
            return record, job
    raise JobNotFound(f"there is no response {response_id[:64]}")


def response_of(backend: Backend, record: Record, job: ResponseJob) -> dict[str, Any]:
    """Return the response of a job. It has no output until the job has ended."""
    fold = ResponseFold(record, job)
    if record.terminal:
        for event in backend.ledger.events(record.id):
            deque(fold.feed(event), maxlen=0)
    elif record.started_at is not None:
        fold.response["status"] = "in_progress"
    return fold.response


def conversation_after(backend: Backend, response_id: str) -> list[dict[str, Any]]:
    """Return the messages of the caller's response and its answer, without its instructions.

    Raises `PreviousResponseNotFound`, `InvalidInput` if the response has no answer, and `Forbidden` if the
    caller's key may not read.
    """
    if not access.may("read"):
        raise Forbidden(f"`{FIELD}` needs an API key with the scope `read`.")
    try:
        record, job = find_response(response_id)
    except JobNotFound as error:
        raise PreviousResponseNotFound(FIELD, f"{error}; it may have been deleted") from None
    response = response_of(backend, record, job)
    if response["status"] not in ("completed", "incomplete"):
        raise InvalidInput(FIELD, f"has no answer to continue: its status is {response['status']}")
    earlier = [message.model_dump(exclude_defaults=True) for message in job.conversation]
    return earlier + to_messages(validate(InputItem, item, "ignore") for item in response["output"])
