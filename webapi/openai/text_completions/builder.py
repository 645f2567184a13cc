"""Builds the responses to a text completion, whole or as a stream of chunks, from the events of its jobs."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from webapi.openai.chunks import DONE, choices_of, error_chunk, index_of, sse
from webapi.openai.schema import PromptTokensDetails, TokenCounts, Usage
from webapi.openai.text_completions.request import ParsedCompletion
from webapi.openai.text_completions.schema import (
    TextChoice,
    TextChunk,
    TextChunkWithUsage,
    TextCompletion,
    TextLogprobs,
)
from worker.jobs.events import ANSWER, LoggedEvent

__all__ = ["TextCompletionBuilder"]


class TextCompletionBuilder:
    """A builder of the responses to one request: a completion, or the chunks of a stream.

    The jobs are those of the request's prompts. Choice `i` of prompt `p` has the index `p * n + i`. `created`
    is the time of the request, in seconds since the epoch. `echoed` are the texts of the prompts if each
    choice begins with that of its prompt. With `prompt_tokens`, the numbers of tokens of the prompts, each
    chunk has the usage so far.
    """

    def __init__(
        self,
        job_ids: Sequence[str],
        model: str,
        created: float,
        parsed: ParsedCompletion,
        echoed: Sequence[str] = (),
        prompt_tokens: Sequence[int] = (),
    ) -> None:
        self._common_fields: dict[str, Any] = {
            "id": f"cmpl-{job_ids[0]}",
            "created": int(created),
            "model": model,
        }
        self._n = n = parsed.jobs[0].n
        self._first_index = {job_id: at * n for at, job_id in enumerate(job_ids)}
        self._include_usage = parsed.request.include_usage
        self._prompt_tokens = prompt_tokens
        #: The texts of prompts that choices have not begun with yet.
        self._echoed = {at * n + choice: text for at, text in enumerate(echoed) for choice in range(n)}
        #: The number of tokens of each choice so far, and that of the characters of its tokens.
        self._tokens: Counter[int] = Counter()
        self._characters: Counter[int] = Counter()
        #: The choices whose finish reason was sent.
        self._ended: set[int] = set()
        #: The usages of the jobs that have succeeded.
        self._usages: list[Usage] = []

    def completion(self, events: Iterable[LoggedEvent]) -> TextCompletion:
        """Return the complete answer from all events of the jobs, which have succeeded."""
        choices: dict[int, TextChoice] = {}
        for event in events:
            for part in self._parts(event):
                whole = choices.setdefault(part.index, part)
                if whole is not part:
                    _extend(whole, part)
        return TextCompletion(
            **self._common_fields, choices=[choices[index] for index in sorted(choices)], usage=self._usage()
        )

    def stream(self, events: Iterable[LoggedEvent | str]) -> Iterator[str]:
        """Yield the answer as Server-Sent Events, one chunk for each event of it. Texts are comments."""
        for event in events:
            if isinstance(event, str):
                yield event
                continue
            if event.terminal and event.type != "succeeded":
                yield error_chunk(event)
                return
            text = "".join(self._chunk(part) for part in self._parts(event))
            if len(self._usages) == len(self._first_index):  # one string, so that it is sent in one piece
                yield text + self._end()
                return
            if text:
                yield text
        yield error_chunk(None)

    def _parts(self, event: LoggedEvent) -> Iterator[TextChoice]:
        """Yield what the event adds to choices."""
        first, data = self._first_index[event.data["job"]], event.data
        if event.type in ANSWER:
            index = first + index_of(event)
            self._tokens[index] += data.get("count", 1)
            part = TextChoice(
                index=index,
                text=self._echoed.pop(index, "") + data["text"],
                logprobs=self._logprobs(index, data["logprobs"]) if data.get("logprobs") else None,
                finish_reason=data.get("finish_reason"),
                token_ids=data.get("token_ids", []),
                prompt_token_ids=data.get("prompt_token_ids", []),
            )
            if part.finish_reason:
                self._ended.add(index)
            if part.text or part.logprobs or part.finish_reason or part.token_ids:
                yield part
        elif event.type == "succeeded":
            self._usages.append(Usage(**data["usage"]))
            for each in choices_of(data["result"]):
                if (index := first + each.get("index", 0)) not in self._ended:
                    if self._n == 1:  # the last tokens may have no text, and then no event
                        self._tokens[index] = data["usage"]["completion_tokens"]
                    text = self._echoed.pop(index, "")
                    yield TextChoice(index=index, text=text, finish_reason=each["finish_reason"])

    def _logprobs(self, index: int, entries: Sequence[dict[str, Any]]) -> TextLogprobs:
        found = TextLogprobs()
        for entry in entries:
            found.tokens.append(entry["token"])
            found.token_logprobs.append(entry["logprob"])
            likeliest = {each["token"]: each["logprob"] for each in entry["top_logprobs"]}
            found.top_logprobs.append(likeliest | {entry["token"]: entry["logprob"]})
            found.text_offset.append(self._characters[index])
            self._characters[index] += len(entry["token"])
        return found

    def _chunk(self, part: TextChoice) -> str:
        fields = {**self._common_fields, "choices": [part]}
        if not self._include_usage:
            return sse(TextChunk(**fields))
        return sse(TextChunkWithUsage(**fields, usage=self._usage_so_far(part.index)))

    def _end(self) -> str:
        if not self._include_usage:
            return DONE
        return sse(TextChunkWithUsage(**self._common_fields, choices=[], usage=self._usage())) + DONE

    def _usage_so_far(self, index: int) -> TokenCounts | None:
        """Return the token counts of a choice, if each chunk has them."""
        if not self._prompt_tokens:
            return None
        prompt, tokens = self._prompt_tokens[index // self._n], self._tokens[index]
        return TokenCounts(prompt_tokens=prompt, completion_tokens=tokens, total_tokens=prompt + tokens)

    def _usage(self) -> Usage:
        """Return the token counts of all jobs together."""
        return Usage(
            prompt_tokens=sum(usage.prompt_tokens for usage in self._usages),
            completion_tokens=sum(usage.completion_tokens for usage in self._usages),
            total_tokens=sum(usage.total_tokens for usage in self._usages),
            prompt_tokens_details=PromptTokensDetails(
                cached_tokens=sum(usage.prompt_tokens_details.cached_tokens for usage in self._usages)
            ),
        )


def _extend(whole: TextChoice, part: TextChoice) -> None:
    """Add the next part of a choice to what is there of it."""
    whole.text += part.text
    whole.finish_reason = part.finish_reason
    whole.token_ids += part.token_ids
    whole.prompt_token_ids += part.prompt_token_ids
    if part.logprobs:
        whole.logprobs = whole.logprobs or TextLogprobs()
        for name in TextLogprobs.model_fields:
            getattr(whole.logprobs, name).extend(getattr(part.logprobs, name))
