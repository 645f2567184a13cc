"""Delivers a response: as a document, or as a stream of its events."""

import json
import logging
from collections.abc import Iterable, Iterator
from typing import Any

from flask import Response
from redis.exceptions import RedisError

from webapi.http.sse import HEADERS
from webapi.openai.comments import end_comments, with_comments
from webapi.openai.routes import error_response
from webapi.openai.translate import failure
from webapi.responses.fold import ResponseFold
from webapi.services.backend import Backend
from worker.jobs.errors import JobConflict, JobNotFound
from worker.jobs.events import LoggedEvent
from worker.jobs.logs.facts import facts

__all__ = ["document_at_end", "forget", "stream"]

logger = logging.getLogger(__name__)


def stream(
    fold: ResponseFold, log: Iterable[LoggedEvent | None], silence_s: float, after: int = -1
) -> Response:
    """Return the response's events behind number `after` as Server-Sent Events. `log` is the whole log."""
    texts = _frames(fold, with_comments(log, silence_s), after)
    return Response(end_comments(texts), mimetype="text/event-stream", headers=HEADERS)


def document_at_end(fold: ResponseFold, log: Iterable[LoggedEvent | None]) -> Response:
    """Return the response when its job has succeeded, or the error of a job that does not succeed."""
    for event in log:
        if event is None:
            continue
        for _ in fold.feed(event):
            pass
        if event.type == "succeeded":
            return Response(json.dumps(fold.response), mimetype="application/json")
        if event.terminal:
            return error_response(event)
    return error_response(None)


def forget(backend: Backend, job_id: str) -> None:
    """Delete the job of a response that is not stored. A job that has not ended stays until it expires."""
    try:
        backend.forget(job_id)
    except (JobConflict, JobNotFound, RedisError) as error:
        logger.info(
            "its response is not stored, but the job stays for now: %s", error, extra=facts(job=job_id)
        )


def _frames(fold: ResponseFold, items: Iterable[LoggedEvent | str], after: int) -> Iterator[str]:
    for item in items:
        if isinstance(item, str):
            yield item
            continue
        if text := "".join(_frame(event) for event in fold.feed(item) if event["sequence_number"] > after):
            yield text
        if item.terminal:
            return
    deleted = failure(None)
    yield _frame(fold.error(deleted.code, deleted.message))


def _frame(event: dict[str, Any]) -> str:
    """Return one event. The JSON is ASCII: some clients take U+2028 for the end of a line."""
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"
