"""What OpenAI's chat clients send and get, as far as it is not the same as in a native chat job."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, FailFast, Field, with_config
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict  # pydantic wants it until Python 3.12

from worker.jobs.specs import Text

__all__ = [
    "ChatCompletion",
    "ChatCompletionChunk",
    "ChatCompletionRequest",
    "Choice",
    "ChunkChoice",
    "ChunkDelta",
    "ChunkWithUsage",
    "Model",
    "ModelList",
    "Usage",
]


def _text_only(kind: Any) -> Any:
    if kind in ("image_url", "input_audio", "file", "video_url", "audio_url"):
        raise PydanticCustomError(
            "unsupported", "{kind} cannot be read: the models here take text only", {"kind": kind}
        )
    return kind


def _no_tools(value: Any) -> Any:
    if value in ("tool", "function") or (isinstance(value, list) and value):
        raise PydanticCustomError("unsupported", "tools are not served here, nor messages of them")
    return value


def _parts(content: Any) -> Any:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if isinstance(content, list):
        return content
    raise PydanticCustomError("content", "must be a string, or a list of parts of type text")


class _Request(BaseModel):
    """Unknown fields are ignored, as OpenAI's clients expect of servers that are older than they are."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class TextPart(_Request):
    """A piece of a message."""

    type: Annotated[Literal["text"], BeforeValidator(_text_only)]
    text: Text


class ChatMessage(_Request):
    """One turn of a conversation; a developer is a system."""

    role: Annotated[Literal["system", "developer", "user", "assistant"], BeforeValidator(_no_tools)]
    content: Annotated[
        list[TextPart],
        Field(min_length=1),
        FailFast(),
        BeforeValidator(_parts, json_schema_input_type=str | Annotated[list[TextPart], Field(min_length=1)]),
    ]
    tool_calls: Annotated[list[Any] | None, BeforeValidator(_no_tools)] = None


class StreamOptions(_Request):
    """With `include_usage` a last chunk tells the usage."""

    include_usage: bool | None = None


class ChatCompletionRequest(_Request):
    """The fields that a native chat job does not have, or has otherwise; null is as good as left out.

    Without `max_completion_tokens` and its old name the answer may go on until the context ends.
    """

    messages: Annotated[list[ChatMessage], FailFast()] = Field(min_length=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    max_tokens: int | None = Field(None, ge=1)
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()

    @property
    def include_usage(self) -> bool:
        """Whether the stream is to end with the usage."""
        return bool(self.stream_options.include_usage)


class Usage(BaseModel):
    """Tokens; those of ends and stop strings count too."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class AssistantMessage(BaseModel):
    """The whole answer."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class Choice(BaseModel):
    """The only one there is."""

    index: Literal[0] = 0
    message: AssistantMessage
    logprobs: None = None
    finish_reason: str


class ChatCompletion(BaseModel):
    """The answer to a request that did not want a stream."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    system_fingerprint: None = None


@with_config(ConfigDict(title="Delta"))
class ChunkDelta(TypedDict, total=False):
    """What is new; the first one tells the role."""

    role: Literal["assistant"]
    content: str


class ChunkChoice(BaseModel):
    """The only one there is, as it grows."""

    index: Literal[0] = 0
    delta: ChunkDelta
    logprobs: None = None
    finish_reason: str | None = None


class ChatCompletionChunk(BaseModel):
    """One line of a stream."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    system_fingerprint: None = None
    choices: list[ChunkChoice]


class ChunkWithUsage(ChatCompletionChunk):
    """The same where the usage was asked for: null but in the last chunk, which has no choice."""

    usage: Usage | None = None


class Model(BaseModel):
    """A model that workers serve; `max_model_len`, as vLLM has it, is a chat model's context in tokens."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: Literal["stoker"] = "stoker"
    max_model_len: int | None = None


class ModelList(BaseModel):
    """All of them."""

    object: Literal["list"] = "list"
    data: list[Model]
