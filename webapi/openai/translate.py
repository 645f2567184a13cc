"""Translates OpenAI's chat requests into native jobs, and the jobs' events into OpenAI's responses."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from webapi.http.problems import TERMINAL_STATUS
from webapi.openai.errors import error_document
from webapi.openai.request_fields import read_fields
from webapi.openai.schema import (
    AssistantMessage,
    ChatCompletion,
    ChatCompletionChunk,
    ChatCompletionRequest,
    Choice,
    ChoiceLogprobs,
    ChunkChoice,
    ChunkDelta,
    ChunkWithUsage,
    Usage,
)
from worker.jobs.errors import InvalidInput
from worker.jobs.events import LoggedEvent
from worker.jobs.logprobs import TokenLogprob
from worker.jobs.sampling import TO_CONTEXT_END
from worker.jobs.specs import ChatJob, validate

__all__ = ["CompletionBuilder", "ParsedRequest", "failure", "parse_request"]

#: The end of every stream.
DONE = "data: [DONE]\n\n"

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
    try:
        request = ChatCompletionRequest.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidInput(".".join(map(str, first["loc"])), first["msg"]) from None
    native = {name: value for name, value in given.items() if name in ChatJob.model_fields}
    native["messages"] = [
        {
            "role": "system" if message.role == "developer" else message.role,
            "content": "\n".join(part.text for part in message.content),
        }
        for message in request.messages
    ]
    native["max_tokens"] = request.max_completion_tokens or request.max_tokens or TO_CONTEXT_END
    return ParsedRequest(request, validate(ChatJob, native))


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


class CompletionBuilder:
    """A builder of the responses to one request: a completion, or the chunks of a stream.

    `created` is the time of the request, in seconds since the epoch.
    `include_usage` adds a last chunk with the token counts to the stream.
    """

    def __init__(self, job_id: str, model: str, created: float, include_usage: bool = False) -> None:
        self._common_fields: dict[str, Any] = {
            "id": f"chatcmpl-{job_id}",
            "created": int(created),
            "model": model,
        }
        self._include_usage = include_usage

    def completion(
        self, succeeded: LoggedEvent, logprobs: list[TokenLogprob] | None = None
    ) -> ChatCompletion:
        """Return the complete answer, from the job's event `succeeded` and the `logprobs` of its tokens."""
        data = succeeded.data
        message = AssistantMessage(content=data["result"]["text"])
        choice = Choice(
            message=message,
            logprobs=None if logprobs is None else ChoiceLogprobs(content=logprobs),
            finish_reason=data["result"]["finish_reason"],
        )
        return ChatCompletion(**self._common_fields, choices=[choice], usage=Usage(**data["usage"]))

    def stream(self, events: Iterable[LoggedEvent | str]) -> Iterator[str]:
        """Yield the answer as Server-Sent Events, one chunk for each token event. Texts are comments.

        The role is in the same chunk as the first text, because clients measure the time to the first chunk.
        """
        first = True
        for event in events:
            if isinstance(event, str):
                yield event
            elif event.terminal:
                yield self._last_chunks(event, first)
                return
            elif event.type == "token":
                text, logprobs = event.data["text"], event.data.get("logprobs")
                delta = ChunkDelta(role="assistant", content=text) if first else ChunkDelta(content=text)
                yield self._chunk(delta, logprobs=logprobs)
                first = False
        yield self._error(None)

    def _last_chunks(self, event: LoggedEvent, first: bool) -> str:
        """Return the end of the stream as one string, so that the server sends it in one piece."""
        if event.type != "succeeded":
            return self._error(event)
        data = event.data
        delta = ChunkDelta(role="assistant", content="") if first else ChunkDelta()
        text = self._chunk(delta, data["result"]["finish_reason"])
        if self._include_usage:
            text += _sse(ChunkWithUsage(**self._common_fields, choices=[], usage=Usage(**data["usage"])))
        return text + DONE

    @staticmethod
    def _error(terminal_event: LoggedEvent | None) -> str:
        why = failure(terminal_event)
        return _sse(error_document(why.status, why.code, why.message)) + DONE

    def _chunk(
        self,
        delta: ChunkDelta,
        finish_reason: str | None = None,
        logprobs: list[TokenLogprob] | None = None,
    ) -> str:
        document = ChunkWithUsage if self._include_usage else ChatCompletionChunk
        content = ChoiceLogprobs(content=logprobs) if logprobs else None
        choice = ChunkChoice(delta=delta, logprobs=content, finish_reason=finish_reason)
        return _sse(document(**self._common_fields, choices=[choice]))


def _sse(document: BaseModel) -> str:
    """Return the document as one Server-Sent Event.

    The JSON is ASCII: some clients take U+2028 and similar characters for the end of a line.
    """
    return f"data: {document.model_dump_json(ensure_ascii=True)}\n\n"
