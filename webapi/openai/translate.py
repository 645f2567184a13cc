"""Translation: OpenAI's chat requests into native jobs, the jobs' events into OpenAI's answers."""

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from webapi.http.problems import TERMINAL_STATUS
from webapi.openai.errors import error_document
from webapi.openai.schema import (
    AssistantMessage,
    ChatCompletion,
    ChatCompletionChunk,
    ChatCompletionRequest,
    Choice,
    ChunkChoice,
    ChunkDelta,
    ChunkWithUsage,
    Usage,
)
from worker.jobs.errors import InvalidInput
from worker.jobs.events import LoggedEvent
from worker.jobs.specs import TO_CONTEXT_END, ChatJob, JobSpec, validate

__all__ = ["CompletionBuilder", "ParsedRequest", "failure", "parse_request"]

#: What cannot be done here, and the values with which a field does not ask for it.
UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "prompt_logprobs": (0,),
    "logit_bias": ({},),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "repetition_penalty": (1,),
    "tools": ([],),
    "functions": ([],),
    "tool_choice": ("none", "auto"),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "audio": (),
    "web_search_options": (),
}

#: What ends every stream.
DONE = "data: [DONE]\n\n"

#: Failures worth another try by the client. Jobs with the others have had their attempts here.
WORTH_A_RETRY = frozenset({"expired", "out_of_memory"})


@dataclass(frozen=True, slots=True)
class ParsedRequest:
    """A request, and the job that does what it asks for."""

    request: ChatCompletionRequest
    job: JobSpec


def parse_request(body: Any) -> ParsedRequest:
    """What the body asks for. Raises `InvalidInput` naming the first field that is wrong."""
    if not isinstance(body, dict):
        raise InvalidInput("body", "must be a JSON object")
    given = {name: value for name, value in body.items() if value is not None}
    for name, neutral in UNSUPPORTED.items():
        if name in given and given[name] not in neutral:
            but = f", except as {' or '.join(map(json.dumps, neutral))}" if neutral else ""
            raise InvalidInput(name, f"{name} is not supported here{but}")
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
    return ParsedRequest(request, validate("chat", native))


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no answer: an HTTP status, a stable code and a sentence."""

    status: int
    code: str
    message: str

    @property
    def worth_a_retry(self) -> bool:
        """Whether the client may as well try again."""
        return self.code in WORTH_A_RETRY


def failure(ending: LoggedEvent | None) -> Failure:
    """Of a job that ended like this; None: it was forgotten before its end."""
    if ending is None:
        return Failure(404, "not_found", "the job was forgotten while its answer was waited for")
    if ending.type == "canceled":
        return Failure(TERMINAL_STATUS["canceled"], "canceled", "the job was canceled")
    data = ending.data
    return Failure(TERMINAL_STATUS.get(data["code"], 500), data["code"], data["message"])


class CompletionBuilder:
    """The answer of one job, by the model of this name, as OpenAI's clients get it."""

    def __init__(self, job_id: str, model: str, include_usage: bool = False) -> None:
        self._head: dict[str, Any] = {
            "id": f"chatcmpl-{job_id}",
            "created": int(time.time()),
            "model": model,
        }
        self._include_usage = include_usage

    def completion(self, ending: LoggedEvent) -> ChatCompletion:
        """All of it, once the job has succeeded."""
        data = ending.data
        message = AssistantMessage(content=data["result"]["text"])
        choice = Choice(message=message, finish_reason=data["result"]["finish_reason"])
        return ChatCompletion(**self._head, choices=[choice], usage=Usage(**data["usage"]))

    def stream(self, events: Iterable[LoggedEvent]) -> Iterator[str]:
        """Its chunks as lines of a stream. The role comes with the first text, for clients measure when."""
        first = True
        for event in events:
            if event.terminal:
                yield self._ending(event, first)
                return
            if event.type == "token":
                text = event.data["text"]
                yield self._chunk(
                    ChunkDelta(role="assistant", content=text) if first else ChunkDelta(content=text)
                )
                first = False
        yield DONE

    def _ending(self, event: LoggedEvent, first: bool) -> str:
        """The last lines, in one piece."""
        if event.type != "succeeded":
            why = failure(event)
            return _chunk(error_document(why.status, why.code, why.message)) + DONE
        data = event.data
        rest = ChunkDelta(role="assistant", content="") if first else ChunkDelta()
        text = self._chunk(rest, data["result"]["finish_reason"])
        if self._include_usage:
            text += _chunk(ChunkWithUsage(**self._head, choices=[], usage=Usage(**data["usage"])))
        return text + DONE

    def _chunk(self, delta: ChunkDelta, finish_reason: str | None = None) -> str:
        kind = ChunkWithUsage if self._include_usage else ChatCompletionChunk
        return _chunk(kind(**self._head, choices=[ChunkChoice(delta=delta, finish_reason=finish_reason)]))


def _chunk(document: BaseModel) -> str:
    """One event, in ASCII: some clients take U+2028 and its like for the end of a line."""
    return f"data: {document.model_dump_json(ensure_ascii=True)}\n\n"
