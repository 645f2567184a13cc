"""The documents of `/v1/completions`, in the form of OpenAI's older API and of vLLM's server."""

from typing import Literal

from pydantic import BaseModel, Field

from webapi.openai.schema import StreamedRequest, TokenCounts, TokenIds, Usage

__all__ = [
    "TextChoice",
    "TextChunk",
    "TextChunkWithUsage",
    "TextCompletion",
    "TextCompletionRequest",
    "TextLogprobs",
]


class TextCompletionRequest(StreamedRequest):
    """The fields that a native chat job lacks or defines differently. Null means the same as no value."""

    max_tokens: int = Field(16, ge=1, le=2**31 - 1)
    echo: bool = False
    logprobs: int | None = Field(None, ge=0, le=20)


class TextLogprobs(BaseModel):
    """The tokens of a text, their log-probabilities, and where they begin in the text.

    `top_logprobs` has the likeliest tokens at each place, and the chosen one.
    """

    tokens: list[str] = []
    token_logprobs: list[float] = []
    top_logprobs: list[dict[str, float]] = []
    text_offset: list[int] = []


class TextChoice(BaseModel):
    """A text that continues a prompt, or the next part of it in a stream."""

    index: int
    text: str
    logprobs: TextLogprobs | None = None
    finish_reason: str | None = None
    token_ids: TokenIds = []
    prompt_token_ids: TokenIds = []


class TextChunk(BaseModel):
    """One chunk of a streamed answer. The choices of the first prompt come first."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[TextChoice]
    system_fingerprint: None = None


class TextCompletion(TextChunk):
    """The answer to a request without `stream`. The choices of the first prompt come first."""

    usage: Usage


class TextChunkWithUsage(TextChunk):
    """A chunk of a stream with `include_usage`.

    The last chunk has the token counts and no choices. In all other chunks `usage` is null, or with
    `continuous_usage_stats` that of the chunk's choice so far.
    """

    usage: Usage | TokenCounts | None = None
