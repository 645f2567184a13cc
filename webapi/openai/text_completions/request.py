"""Translates the requests of `/v1/completions` into native jobs, one for each prompt."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from webapi.openai.request_fields import read_fields
from webapi.openai.text_completions.schema import TextCompletionRequest
from worker.jobs.errors import InvalidInput
from worker.jobs.specs import ChatJob, validate

__all__ = ["MAX_PROMPTS", "ParsedCompletion", "parse_completion"]

#: Most prompts of a request. Each of them is a job.
MAX_PROMPTS = 64
#: The fields of a native chat job that mean the same in a text completion.
SHARED = (
    ChatJob.model_fields.keys() - TextCompletionRequest.model_fields - {"messages", "prompt", "top_logprobs"}
)


@dataclass(frozen=True, slots=True)
class ParsedCompletion:
    """A request, and the native jobs that answer it, one for each of its prompts."""

    request: TextCompletionRequest
    jobs: Sequence[ChatJob]


def parse_completion(body: Any) -> ParsedCompletion:
    """Parse the JSON value of a request's body. Unknown fields are ignored.

    Raises `InvalidInput` for the first field that is invalid or asks for an unsupported feature.
    """
    given = read_fields(body, ("echo",))
    if given.get("suffix"):
        raise InvalidInput("suffix", "suffix is not supported here")
    request = validate(TextCompletionRequest, given, "ignore")
    if request.echo and request.logprobs is not None:
        raise InvalidInput("echo", "echo is not supported together with logprobs: prompts have none here")
    native = {name: value for name, value in given.items() if name in SHARED}
    native["max_tokens"] = request.max_tokens
    if request.logprobs is not None:
        native |= {"logprobs": True, "top_logprobs": request.logprobs}
    jobs = [validate(ChatJob, native | {"prompt": prompt}, "ignore") for prompt in _prompts(given)]
    return ParsedCompletion(request, jobs)


def _prompts(given: dict[str, Any]) -> Sequence[Any]:
    """Return the prompts of a request: a text, token ids, or a list of either."""
    if (prompt := given.get("prompt")) is None:
        raise InvalidInput("prompt", "Field required")
    if not isinstance(prompt, list) or not any(isinstance(each, str | list) for each in prompt):
        return [prompt]
    if len(prompt) > MAX_PROMPTS:
        raise InvalidInput("prompt", f"may be at most {MAX_PROMPTS} prompts")
    if len({type(each) for each in prompt}) > 1:
        raise InvalidInput("prompt", "must be all texts, or all lists of token ids")
    return prompt
