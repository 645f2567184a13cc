"""The documents of OpenAI's chat and model routes.

`worker.jobs.specs` has the fields that are the same in native jobs.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

from webapi.openai.deltas import AssistantMessage, ChunkDelta
from worker.jobs.chat.logprobs import TokenLogprob
from worker.jobs.chat.sampling import TO_CONTEXT_END

__all__ = [
    "ChatCompletion",
    "ChatCompletionChunk",
    "ChatCompletionRequest",
    "Choice",
    "ChoiceLogprobs",
    "ChunkChoice",
    "ChunkWithUsage",
    "Model",
    "ModelList",
    "StreamedRequest",
    "TokenCounts",
    "TokenIds",
    "Usage",
]


class _Request(BaseModel):
    """A part of a request. Unknown fields are ignored: OpenAI's clients may be newer than this server."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class StreamOptions(_Request):
    """Options of a stream. `include_usage` adds a last chunk with the token counts.

    With `continuous_usage_stats` too, each chunk has the token counts of its choice so far.
    """

    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None


class StreamedRequest(_Request):
    """The fields that say whether and how an answer is streamed."""

    stream: bool = False
    stream_options: StreamOptions = StreamOptions()

    @property
    def include_usage(self) -> bool:
        """True if the stream ends with a chunk that holds the token counts."""
        return bool(self.stream_options.include_usage)

    @property
    def continuous_usage(self) -> bool:
        """True if each chunk of the stream holds token counts."""
        return self.stream and self.include_usage and bool(self.stream_options.continuous_usage_stats)


class ChatCompletionRequest(StreamedRequest):
    """The fields that a native chat job lacks or defines differently. Null means the same as no value.

    Without `max_completion_tokens` (or `max_tokens`, its older name), an answer may fill the model's context.
    """

    max_completion_tokens: int | None = Field(None, ge=1, le=TO_CONTEXT_END)
    max_tokens: int | None = Field(None, ge=1, le=TO_CONTEXT_END)


class PromptTokensDetails(BaseModel):
    """The number of tokens of the prompt that were in the engine's cache."""

    cached_tokens: int


class CompletionTokensDetails(BaseModel):
    """The number of tokens of an answer that are reasoning."""

    reasoning_tokens: int


class TokenCounts(BaseModel):
    """Token counts. End-of-text tokens and the tokens of stop strings are counted too."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Usage(TokenCounts):
    """The token counts of a whole answer."""

    prompt_tokens_details: PromptTokensDetails = PromptTokensDetails(cached_tokens=0)
    completion_tokens_details: Annotated[
        CompletionTokensDetails | SkipJsonSchema[None], Field(exclude_if=lambda details: details is None)
    ] = None


#: The ids of tokens, if the request has `return_token_ids`, as in vLLM's API.
TokenIds = Annotated[list[int], Field(exclude_if=lambda ids: not ids)]


class ChoiceLogprobs(BaseModel):
    """The log-probabilities of the tokens of a text. The tokens may divide its characters."""

    content: list[TokenLogprob]
    refusal: None = None


class Choice(BaseModel):
    """An answer and the reason for its end. A completion has `n` choices."""

    index: int
    message: AssistantMessage
    logprobs: ChoiceLogprobs | None = None
    finish_reason: str
    token_ids: TokenIds = []


class ChatCompletion(BaseModel):
    """The answer to a request without `stream`."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    system_fingerprint: None = None
    prompt_token_ids: TokenIds = []


class ChunkChoice(BaseModel):
    """The next part of an answer. A chunk has exactly one choice."""

    index: int
    delta: ChunkDelta
    logprobs: ChoiceLogprobs | None = None
    finish_reason: str | None = None
    token_ids: TokenIds = []


class ChatCompletionChunk(BaseModel):
    """One chunk of a streamed answer."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    system_fingerprint: None = None
    choices: list[ChunkChoice]
    prompt_token_ids: TokenIds = []


class ChunkWithUsage(ChatCompletionChunk):
    """A chunk of a stream with `include_usage`.

    The last chunk has the token counts and no choices. In all other chunks `usage` is null, or with
    `continuous_usage_stats` that of the chunk's choice so far.
    """

    usage: Usage | TokenCounts | None = None


class Model(BaseModel):
    """A model that workers serve.

    `max_model_len` is the context length of a chat model in tokens. `root` is the name of the model. `parent`
    is the model whose LoRA adapter it is, and `permission` is empty. vLLM's server has these fields, too.
    `parameters` is the JSON schema of the options of a frame model, which are fields of its video jobs.
    """

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: Literal["stoker"] = "stoker"
    root: str
    parent: str | None = None
    max_model_len: int | None = None
    permission: list[dict[str, Any]] = []
    parameters: dict[str, Any] | None = None


class ModelList(BaseModel):
    """All models that workers serve."""

    object: Literal["list"] = "list"
    data: list[Model]
