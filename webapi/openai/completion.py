"""Builds OpenAI's responses to a chat, whole or as a stream of chunks, from the events of its job."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from webapi.openai.chunks import DONE, choices_of, error_chunk, index_of, listed, sse
from webapi.openai.deltas import ChunkDelta, delta_of, message_of
from webapi.openai.schema import (
    ChatCompletion,
    ChatCompletionChunk,
    Choice,
    ChoiceLogprobs,
    ChunkChoice,
    ChunkWithUsage,
    TokenCounts,
    Usage,
)
from webapi.openai.translate import ParsedRequest
from worker.jobs.events import ANSWER, LoggedEvent

__all__ = ["CompletionBuilder"]


class CompletionBuilder:
    """A builder of the responses to one request: a completion, or the chunks of a stream.

    `created` is the time of the request, in seconds since the epoch. With `prompt_tokens`, the number of
    tokens of the prompt, each chunk has the usage so far.
    """

    def __init__(
        self,
        job_id: str,
        model: str,
        created: float,
        parsed: ParsedRequest,
        prompt_tokens: int | None = None,
    ) -> None:
        self._common_fields: dict[str, Any] = {
            "id": f"chatcmpl-{job_id}",
            "created": int(created),
            "model": model,
        }
        self._job = parsed.job
        self._include_usage = parsed.request.include_usage
        self._prompt_tokens = prompt_tokens
        #: The number of tokens of each choice so far.
        self._tokens: Counter[int] = Counter()
        #: The choices whose role the stream has sent, and those whose finish reason it has sent.
        self._begun: set[int] = set()
        self._ended: set[int] = set()

    @property
    def needs_events(self) -> bool:
        """True if the completion has more of the events of the answer than what they say."""
        return self._job.logprobs or self._job.return_token_ids

    def completion(self, succeeded: LoggedEvent, tokens: Sequence[LoggedEvent] = ()) -> ChatCompletion:
        """Return the complete answer, from the job's event `succeeded` and, if needed, its token events."""
        data = succeeded.data
        choices = [
            self._choice(each, [event for event in tokens if index_of(event) == each.get("index", 0)])
            for each in choices_of(data["result"])
        ]
        return ChatCompletion(
            **self._common_fields,
            choices=choices,
            usage=Usage(**data["usage"]),
            prompt_token_ids=listed("prompt_token_ids", tokens),
        )

    def stream(self, events: Iterable[LoggedEvent | str]) -> Iterator[str]:
        """Yield the answer as Server-Sent Events, one chunk for each event of it. Texts are comments.

        The role is in the same chunk as the first part, because clients measure the time to the first chunk.
        """
        for event in events:
            if isinstance(event, str):
                yield event
            elif event.terminal:
                yield self._last_chunks(event)
                return
            elif event.type in ANSWER:
                yield from self._answer_chunk(event)
        yield error_chunk(None)

    def _choice(self, result: dict[str, Any], tokens: Sequence[LoggedEvent]) -> Choice:
        logprobs = ChoiceLogprobs(content=listed("logprobs", tokens)) if self._job.logprobs else None
        return Choice(
            index=result.get("index", 0),
            message=message_of(result),
            logprobs=logprobs,
            finish_reason=result["finish_reason"],
            token_ids=listed("token_ids", tokens),
        )

    def _answer_chunk(self, event: LoggedEvent) -> Iterator[str]:
        """Yield the chunk of an event, unless it tells nothing: hidden reasoning has no text."""
        data, index = event.data, index_of(event)
        self._tokens[index] += data.get("count", 1)
        choice = ChunkChoice(
            index=index,
            delta=delta_of(event),
            logprobs=ChoiceLogprobs(content=data["logprobs"]) if data.get("logprobs") else None,
            finish_reason=data.get("finish_reason"),
            token_ids=data.get("token_ids", []),
        )
        if choice.delta or choice.finish_reason or choice.token_ids:
            yield self._chunk(choice, data.get("prompt_token_ids", []))

    def _last_chunks(self, event: LoggedEvent) -> str:
        """Return the end of the stream as one string, so that the server sends it in one piece."""
        if event.type != "succeeded":
            return error_chunk(event)
        data = event.data
        if not self._ended:  # only the ends of several choices are token events, and count all tokens
            self._tokens[0] = data["usage"]["completion_tokens"]
        text = "".join(
            self._chunk(ChunkChoice(index=index, delta=ChunkDelta(), finish_reason=each["finish_reason"]))
            for each in choices_of(data["result"])
            if (index := each.get("index", 0)) not in self._ended
        )
        if self._include_usage:
            text += sse(ChunkWithUsage(**self._common_fields, choices=[], usage=Usage(**data["usage"])))
        return text + DONE

    def _chunk(self, choice: ChunkChoice, prompt_token_ids: Sequence[int] = ()) -> str:
        if choice.index not in self._begun:
            self._begun.add(choice.index)
            choice.delta = ChunkDelta(role="assistant", **(choice.delta or ChunkDelta(content="")))
        if choice.finish_reason:
            self._ended.add(choice.index)
        fields = {**self._common_fields, "choices": [choice], "prompt_token_ids": prompt_token_ids}
        if not self._include_usage:
            return sse(ChatCompletionChunk(**fields))
        return sse(ChunkWithUsage(**fields, usage=self._usage_so_far(choice.index)))

    def _usage_so_far(self, index: int) -> TokenCounts | None:
        """Return the token counts of a choice, if each chunk has them."""
        if (prompt := self._prompt_tokens) is None:
            return None
        tokens = self._tokens[index]
        return TokenCounts(prompt_tokens=prompt, completion_tokens=tokens, total_tokens=prompt + tokens)
