"""The routes whose requests a batch can have."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel

from webapi.openai.completion import CompletionBuilder
from webapi.openai.translate import ParsedRequest, parse_request
from worker.jobs.errors import InvalidInput
from worker.jobs.ledger.reader import LedgerReader
from worker.jobs.records import Record
from worker.jobs.specs import JobSpec

__all__ = ["ENDPOINTS", "Endpoint", "EndpointName"]

EndpointName = Literal["/v1/chat/completions"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A route.

    - `job`: returns the job for the body of a request. Raises `InvalidInput`.
    - `answer`: returns the route's answer, from the body of the request and the job that has succeeded.
    """

    job: Callable[[Any], JobSpec]
    answer: Callable[[LedgerReader, Any, Record], BaseModel]


def _parse_chat(body: Any) -> ParsedRequest:
    parsed = parse_request(body)
    if parsed.request.stream:
        raise InvalidInput("stream", "a request of a batch cannot be streamed")
    return parsed


def _answer_chat(ledger: LedgerReader, body: Any, record: Record) -> BaseModel:
    builder = CompletionBuilder(record.id, record.model, record.created_at, _parse_chat(body))
    events = ledger.events(record.id, 0 if builder.needs_events else record.events - 1)
    return builder.completion(events[-1], events[:-1])


#: The routes, by path.
ENDPOINTS: Mapping[str, Endpoint] = {
    "/v1/chat/completions": Endpoint(lambda body: _parse_chat(body).job, _answer_chat),
}
