"""The routes whose requests a batch can have."""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from webapi.openai.completion import CompletionBuilder
from webapi.openai.text_completions.builder import TextCompletionBuilder
from webapi.openai.text_completions.request import ParsedCompletion, parse_completion
from webapi.openai.translate import ParsedRequest, parse_request
from webapi.responses.fold import ResponseFold
from webapi.responses.job import ResponseJob, make_job
from webapi.responses.request import read_request
from worker.jobs.errors import InvalidInput
from worker.jobs.ledger.reader import LedgerReader
from worker.jobs.records import Record
from worker.jobs.specs import JobSpec

__all__ = ["ENDPOINTS", "Endpoint", "EndpointName"]

EndpointName = Literal["/v1/chat/completions", "/v1/completions", "/v1/responses"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A route.

    - `job`: returns the job for the body of a request. Raises `InvalidInput`.
    - `answer`: returns the route's answer, from the body of the request and the job that has succeeded.
    """

    job: Callable[[Any], JobSpec]
    answer: Callable[[LedgerReader, Any, Record], dict[str, Any]]


def _parse_chat(body: Any) -> ParsedRequest:
    parsed = parse_request(body)
    if parsed.request.stream:
        raise InvalidInput("stream", "is not supported in a batch")
    return parsed


def _answer_chat(ledger: LedgerReader, body: Any, record: Record) -> dict[str, Any]:
    builder = CompletionBuilder(record.id, record.model, record.created_at, _parse_chat(body))
    events = ledger.events(record.id, 0 if builder.needs_events else record.events - 1)
    return builder.completion(events[-1], events[:-1]).model_dump(mode="json")


def _parse_text(body: Any) -> ParsedCompletion:
    parsed = parse_completion(body)
    for name in ("stream", "echo"):
        if getattr(parsed.request, name):
            raise InvalidInput(name, "is not supported in a batch")
    if len(parsed.jobs) > 1:
        raise InvalidInput("prompt", "must be one prompt in a batch")
    return parsed


def _answer_text(ledger: LedgerReader, body: Any, record: Record) -> dict[str, Any]:
    builder = TextCompletionBuilder([record.id], record.model, record.created_at, _parse_text(body))
    return builder.completion(ledger.events(record.id)).model_dump(mode="json")


def _response_job(body: Any) -> ResponseJob:
    asked, fields = read_request(body)
    for name in ("stream", "background", "previous_response_id"):
        if getattr(asked, name):
            raise InvalidInput(name, "is not supported in a batch")
    return make_job(asked, fields)


def _answer_response(ledger: LedgerReader, body: Any, record: Record) -> dict[str, Any]:
    fold = ResponseFold(record, _response_job(body))
    for event in ledger.events(record.id):
        deque(fold.feed(event), maxlen=0)
    return fold.response


#: The routes, by path.
ENDPOINTS: Mapping[str, Endpoint] = {
    "/v1/chat/completions": Endpoint(lambda body: _parse_chat(body).job, _answer_chat),
    "/v1/completions": Endpoint(lambda body: _parse_text(body).jobs[0], _answer_text),
    "/v1/responses": Endpoint(_response_job, _answer_response),
}
