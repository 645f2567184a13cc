"""Translates OpenAI's chat requests into native jobs, and the jobs' failures into OpenAI's errors."""

from dataclasses import dataclass
from typing import Any

from webapi.http.problems import TERMINAL_STATUS
from webapi.openai.request_fields import read_fields
from webapi.openai.schema import ChatCompletionRequest
from worker.jobs.chat.sampling import TO_CONTEXT_END
from worker.jobs.events import LoggedEvent
from worker.jobs.specs import ChatJob, validate

__all__ = ["ParsedRequest", "failure", "parse_request"]

#: The fields of a native chat job that a conversation has.
CHAT_FIELDS = ChatJob.model_fields.keys() - {"prompt"}
#: Error codes after which the client may retry. For all other codes the job has used its attempts here.
RETRYABLE = frozenset({"expired", "out_of_memory", "unsupported"})


@dataclass(frozen=True, slots=True)
class ParsedRequest:
    """A request, and the native job that answers it."""

    request: ChatCompletionRequest
    job: ChatJob


def parse_request(body: Any) -> ParsedRequest:
    """Parse the JSON value of a request's body. Unknown fields are ignored.

    Raises `InvalidInput` for the first field that is invalid or asks for an unsupported feature.
    """
    given = read_fields(body)
    request = validate(ChatCompletionRequest, given, "ignore")
    native = {name: value for name, value in given.items() if name in CHAT_FIELDS}
    native["max_tokens"] = request.max_completion_tokens or request.max_tokens or TO_CONTEXT_END
    return ParsedRequest(request, validate(ChatJob, native, "ignore"))


@dataclass(frozen=True, slots=True)
class Failure:
    """The reason why a job has no answer: an HTTP status, a stable code and a message."""

    status: int
    code: str
    message: str

    @property
    def retryable(self) -> bool:
        """True if another request may succeed."""
        return self.code in RETRYABLE


def failure(terminal_event: LoggedEvent | None) -> Failure:
    """Return the failure that the event `failed` or `canceled` means for a waiting client.

    None stands for a job that was deleted before its terminal event could be read.
    """
    if terminal_event is None:
        return Failure(404, "not_found", "the job was deleted before its answer could be read")
    if terminal_event.type == "canceled":
        return Failure(TERMINAL_STATUS["canceled"], "canceled", "the job was canceled")
    data = terminal_event.data
    return Failure(TERMINAL_STATUS.get(data["code"], 500), data["code"], data["message"])
