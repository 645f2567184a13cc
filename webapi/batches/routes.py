"""The routes `/v1/batches` of OpenAI's API."""

import hashlib
import uuid

from flask import Blueprint
from flask.typing import ResponseReturnValue

from webapi.auth import access, audit
from webapi.batches.batch import ENDED, Batch
from webapi.batches.batch_store import BatchStore
from webapi.batches.documents import BatchDocument, BatchList, BatchListing, BatchRequest
from webapi.description.route import AnswerSpec, Body, describe
from webapi.http.bodies import json_body, query
from webapi.http.list_page import list_page
from webapi.services.backend import current_backend
from webapi.submission.request_preferences import IDEMPOTENCY, read_idempotency_text
from webapi.tracing.request_trace import request_trace
from worker.jobs.errors import JobConflict
from worker.jobs.specs import ChatJob, validate

__all__ = ["routes"]

routes = Blueprint("batches", __name__, url_prefix="/v1/batches")

#: Seconds of the completion window `24h`.
WINDOW_S = 86_400.0
BATCH = {200: AnswerSpec("The batch.", BatchDocument)}


def _batches() -> BatchStore:
    return BatchStore(current_backend().store)


@routes.post("")
@describe(
    "submit",
    BATCH,
    (400, 404, 408, 413, 415, 429),
    Body(BatchRequest),
    parameters=IDEMPOTENCY,
    submits=ChatJob.kind,
)
def create() -> ResponseReturnValue:
    """Create a batch of the requests in an uploaded file."""
    asked, backend = validate(BatchRequest, json_body(), "ignore"), current_backend()
    backend.redis_memory.check_room()
    batch_id, now = f"batch_{_new_id()}", backend.store.clock.now()
    trace = request_trace()
    _batches().create(
        batch_id,
        access.owner(),
        expires_at=now + WINDOW_S,
        fingerprint=hashlib.sha256(asked.model_dump_json().encode()).hexdigest(),
        trace=trace.traceparent if trace else None,
        **asked.model_dump(),
    )
    audit.log("batch_created", batch=batch_id)
    return _document(_batches().get(batch_id))


def _new_id() -> str:
    """Return a random id, or the one of the caller's idempotency key."""
    key = read_idempotency_text()
    if key is None:
        return uuid.uuid4().hex
    return hashlib.sha256(f"{access.owner()} {key}".encode(errors="replace")).hexdigest()[:32]


@routes.get("")
@describe("read", {200: AnswerSpec("A page of batches.", BatchList)}, (400, 404), query=BatchListing)
def list_batches() -> ResponseReturnValue:
    """List the caller's batches, newest first."""
    listing = query(BatchListing)
    after = _batches().get(listing.after, access.owner()).id if listing.after is not None else None
    found, more = list_page(list(_batches().list(access.owner())), after, listing.limit)
    data = [BatchDocument.from_batch(each) for each in found]
    first, last = (data[0].id, data[-1].id) if data else (None, None)
    return BatchList(data=data, first_id=first, last_id=last, has_more=more).model_dump()


@routes.get("/<batch_id>")
@describe("read", BATCH, (404,))
def show(batch_id: str) -> ResponseReturnValue:
    """Show a batch."""
    return _document(_batches().get(batch_id, access.owner()))


@routes.post("/<batch_id>/cancel")
@describe("submit", BATCH, (404, 409))
def cancel(batch_id: str) -> ResponseReturnValue:
    """Cancel a batch. Answers that are complete stay, and its files have them when it is `cancelled`."""
    batches = _batches()
    while True:
        batch = batches.get(batch_id, access.owner())
        if batch.status in (*ENDED, "finalizing"):
            raise JobConflict(f"the batch is {batch.status}; it cannot be cancelled any more")
        if batch.status == "cancelling" or batches.change(batch, "cancelling", stop="cancelled"):
            break
    audit.log("batch_cancelled", batch=batch_id)
    return _document(batches.get(batch_id))


def _document(batch: Batch) -> ResponseReturnValue:
    return BatchDocument.from_batch(batch).model_dump()
