"""What a client asks for: the validated bodies of chat and video jobs."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    FailFast,
    Field,
    StringConstraints,
    ValidationError,
)

from worker.jobs.errors import InvalidInput

__all__ = [
    "TO_CONTEXT_END",
    "ChatJob",
    "JobSpec",
    "Message",
    "Requested",
    "Text",
    "VideoJob",
    "parse_spec",
    "validate",
]

#: `max_tokens` of an answer that only the model's context bounds: more than any has.
TO_CONTEXT_END = 2**31 - 1

#: With any constraint pydantic refuses lone surrogates, which JSON allows and no tokenizer takes.
Text = Annotated[str, StringConstraints(min_length=0)]
Stop = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Priority = Annotated[int, Field(ge=0, le=9)]
Colour = Annotated[str, StringConstraints(pattern=r"^#[0-9a-fA-F]{6}$")]


def _listed(stop: Any) -> Any:
    return [stop] if isinstance(stop, str) else stop


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Message(_Strict):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: Text


class _Job(_Strict):
    """What all jobs have.

    `timeout_s` and `max_queue_s`: how long it may take, and before that wait for its start; None is the
    default. `priority`: 9 goes before 0, among the jobs of one key. `webhook_url` hears of its end.
    """

    model: Text | None = None
    priority: Priority = 5
    webhook_url: Text | None = None
    timeout_s: Seconds | None = None
    max_queue_s: Seconds | None = None


class ChatJob(_Job):
    """A conversation to be continued by one answer.

    `temperature` 0 is greedy. `stop` is not part of the answer. With `seed` the answer is repeatable.
    With `ignore_eos` the model cannot end it before `max_tokens`, and with `min_tokens` not before these.
    """

    kind: ClassVar[Literal["chat"]] = "chat"

    #: One wrong message is enough: to tell of five million holds up the whole API.
    messages: Annotated[list[Message], FailFast()] = Field(min_length=1)
    max_tokens: int = Field(256, ge=1)
    min_tokens: int = Field(0, ge=0)
    ignore_eos: bool = False
    temperature: float = Field(1.0, ge=0, le=2, allow_inf_nan=False)
    top_p: float = Field(1.0, gt=0, le=1, allow_inf_nan=False)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: Annotated[
        list[Stop],
        Field(max_length=4),
        BeforeValidator(_listed, json_schema_input_type=Stop | Annotated[list[Stop], Field(max_length=4)]),
    ] = []


class Requested(_Strict):
    """What an OpenAI client said of the video that it wants: shown again, for our models take none of it."""

    prompt: Text | None = None
    seconds: Text
    size: Text


class VideoJob(_Job):
    """An effect for every frame of an uploaded clip.

    `background` is the colour behind the person; `background_image` says that an image was uploaded
    instead. `pad` fills the last, short batch with its last frame or with zeros.
    """

    model_config = ConfigDict(strict=False)  # the fields of a form come as text

    kind: ClassVar[Literal["video"]] = "video"

    effect: Literal["background", "blur", "matte"] = "background"
    background: Colour = "#00b140"
    background_image: bool = False
    pad: Literal["last", "zeros"] = "last"
    requested: Requested | None = None


JobSpec = ChatJob | VideoJob
_KINDS: dict[str, type[JobSpec]] = {"chat": ChatJob, "video": VideoJob}


def validate(kind: str, body: Any) -> JobSpec:
    """The job that `body` asks for. Raises `InvalidInput` naming the first field that is wrong."""
    try:
        return _KINDS[kind].model_validate(body)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "body"
        raise InvalidInput(field, first["msg"]) from None


def parse_spec(kind: str, text: str) -> JobSpec:
    """The job that the ledger holds as JSON."""
    return _KINDS[kind].model_validate_json(text)
