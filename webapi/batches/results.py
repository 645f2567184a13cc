"""The results of requests, as lines of the output file and the error file of their batch."""

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from webapi.batches.batch import Batch, Stop
from webapi.batches.endpoints import ENDPOINTS
from webapi.batches.lines import Request
from webapi.openai.errors import error_document
from webapi.openai.translate import failure
from worker.jobs.errors import InvalidInput, ModelNotFound, StokerError
from worker.jobs.ledger.reader import LedgerReader
from worker.jobs.logs.facts import facts
from worker.jobs.records import Record

__all__ = ["Result", "ended", "guarded", "refused", "stopped"]

log = logging.getLogger(__name__)

#: Why a request has no answer, by the reason for which its batch stops.
_STOPPED: dict[Stop, tuple[str, str]] = {
    "cancelled": ("batch_cancelled", "The batch was cancelled before the request was answered."),
    "expired": ("batch_expired", "The request was not answered before the completion window expired."),
}


@dataclass(frozen=True, slots=True)
class Result:
    """The result of one request. `tokens` are the input, cached, output and reasoning tokens of an answer."""

    number: int
    job_id: str
    line: dict[str, Any]
    completed: bool = False
    tokens: Sequence[int] = (0, 0, 0, 0)

    @property
    def text(self) -> bytes:
        """The line of the part: `+` before one of the output file, `-` before one of the error file.

        The JSON is ASCII: some clients take U+2028 and similar characters for the end of a line.
        """
        mark = b"+" if self.completed else b"-"
        return mark + json.dumps(self.line).encode() + b"\n"


def refused(number: int, job_id: str, request: Request, error: InvalidInput) -> Result:
    """Return the result of a request that was not accepted."""
    status = 404 if isinstance(error, ModelNotFound) else 400
    body = error_document(status, error.code, str(error), error.field).model_dump()
    return Result(number, job_id, _line(job_id, request, status, body))


def guarded(results: Iterator[Result], number: int, job_id: str, request: Request) -> Iterator[Result]:
    """Yield the results of a request, or its error. So no request stops the others of its batch.

    `InvalidInput` may also be raised for a request that an earlier release took. Errors of stores are raised.
    """
    try:
        yield from results
    except InvalidInput as error:
        yield refused(number, job_id, request, error)
    except (StokerError, RedisError, OperationalError, OSError):
        raise
    except Exception:  # a fault of this program
        log.exception("a request of a batch cannot be answered", extra=facts(job=job_id))
        body = error_document(500, StokerError.code, "The request cannot be answered here.").model_dump()
        yield Result(number, job_id, _line(job_id, request, 500, body))


def stopped(number: int, job_id: str, request: Request, stop: Stop) -> Result:
    """Return the result of a request that got no answer because its batch stops."""
    code, message = _STOPPED[stop]
    line = _line(job_id, request) | {"error": {"code": code, "message": message}}
    return Result(number, job_id, line)


def ended(ledger: LedgerReader, batch: Batch, number: int, request: Request, record: Record) -> Result:
    """Return the result of a request whose job has ended."""
    if record.state == "succeeded":
        answer = ENDPOINTS[batch.endpoint].answer(ledger, request.body, record)
        line = _line(record.id, request, 200, answer)
        return Result(number, record.id, line, completed=True, tokens=_tokens(record.usage or {}))
    if record.state == "canceled" and batch.stop:
        return stopped(number, record.id, request, batch.stop)
    events = ledger.events(record.id, record.events - 1)
    why = failure(events[-1] if events else None)
    body = error_document(why.status, why.code, why.message).model_dump()
    return Result(number, record.id, _line(record.id, request, why.status, body))


def _line(job_id: str, request: Request, status: int | None = None, body: Any = None) -> dict[str, Any]:
    response = {"status_code": status, "request_id": job_id, "body": body} if status else None
    return {"id": f"batch_req_{job_id}", "custom_id": request.custom_id, "response": response, "error": None}


def _tokens(usage: dict[str, Any]) -> Sequence[int]:
    prompt = usage.get("prompt_tokens_details") or {}
    completion = usage.get("completion_tokens_details") or {}
    inputs = usage.get("prompt_tokens"), prompt.get("cached_tokens")
    outputs = usage.get("completion_tokens"), completion.get("reasoning_tokens")
    return [count or 0 for count in (*inputs, *outputs)]
