"""The job specifications: validated bodies of chat and video requests."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    SerializerFunctionWrapHandler,
    StringConstraints,
    ValidationError,
    model_serializer,
    model_validator,
)

from worker.jobs.chat.prompt_source import PromptSource
from worker.jobs.chat.sampling import SamplingParams
from worker.jobs.chat.tools import Text
from worker.jobs.errors import InvalidInput, Unsupported

__all__ = [
    "ChatJob",
    "JobSpec",
    "ModelName",
    "Requested",
    "VideoJob",
    "read_spec",
    "validate",
]

#: Text that is stored and that no model reads.
ShortText = Annotated[str, StringConstraints(max_length=1024)]
ModelName = Annotated[str, StringConstraints(max_length=256)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Priority = Annotated[int, Field(ge=0, le=9)]
#: The options that specs of release 0.2.0 have beside the other fields. Its workers read them there.
FLAT_OPTIONS = ("effect", "background")


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class JobSpec(_Strict):
    """The fields of all jobs. A subclass for each kind has the fields of the kind, and its name as `kind`.

    `timeout_s` limits the time from the first start to the end, and `max_queue_s` the wait for the first
    start, both in seconds. If one is None, the settings decide. Among the jobs of one API key, priority 9
    goes before 0. `webhook_url` receives the final state.

    A field that `repr` omits is a content or a secret. The job's document does not show it.
    """

    kind: ClassVar[str]

    model: ModelName | None = None
    priority: Priority = 5
    webhook_url: Text | None = Field(None, repr=False)
    timeout_s: Seconds | None = Field(None, description="At most the server's STOKER_MAX_TIMEOUT_S.")
    max_queue_s: Seconds | None = Field(None, description="At most the server's STOKER_MAX_QUEUE_LIMIT_S.")

    @property
    def length(self) -> int:
        """How many jobs the job counts for in its owner's turns and caps, and in its worker's slots."""
        return 1

    @property
    def webhook_host(self) -> str:
        """The host and port in `webhook_url`; empty if there is no URL."""
        return re.split("[/?#]", (self.webhook_url or "").partition("//")[2], maxsplit=1)[0].lower()

    @classmethod
    def shown(cls, stored: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the job's document shows of a stored spec, which a newer version may have stored."""
        shown = {name for name, field in cls.model_fields.items() if field.repr and name != "model"}
        return {name: value for name, value in stored.items() if name in shown}


class ChatJob(SamplingParams, PromptSource, JobSpec):
    """A conversation, or a prompt of the client's own, that the model continues with one answer."""

    model_config = ConfigDict(
        json_schema_extra={"anyOf": [{"required": ["messages"]}, {"required": ["prompt"]}]}
    )

    kind = "chat"

    def prompt_limit(self, context_length: int | None) -> int | None:
        """Return the most tokens of the prompt for a model with this context; None means all."""
        if self.truncate_prompt_tokens != -1:
            return self.truncate_prompt_tokens
        if context_length is None:
            return None
        answer = self.max_tokens if self.max_tokens < context_length else 1
        return max(context_length - answer, 1)

    def asked(self) -> list[str]:
        """Return the names of all that not every worker supports: parameters, options, fields of messages."""
        return [*SamplingParams.asked(self), *PromptSource.asked(self)]

    @property
    def length(self) -> int:
        """The number of choices (`JobSpec.length`)."""
        return self.n


class Requested(_Strict):
    """Fields of an OpenAI video request that the models do not use. Responses return them unchanged."""

    prompt: ShortText | None = None
    seconds: ShortText
    size: ShortText


class VideoJob(JobSpec):
    """A pass of an uploaded clip through a frame model.

    `options` are the options of the model, as JSON values. `uploads` are the names of the options that were
    uploaded as files. `pad` says whether the short last batch is filled with its last frame or with zeros.
    `deinterlace` says whether interlaced frames become progressive, and `odd_size` whether an odd width or
    height is padded or scaled to the next even one.
    """

    model_config = ConfigDict(strict=False)  # the fields of a form are text

    kind = "video"

    options: dict[str, JsonValue] = Field({}, repr=False)
    uploads: tuple[str, ...] = ()
    pad: Literal["last", "zeros"] = "last"
    deinterlace: bool = True
    odd_size: Literal["pad", "scale"] = "pad"
    requested: Requested | None = Field(None, repr=False)

    @classmethod
    def shown(cls, stored: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the job's document shows of a stored spec, with the options beside the others."""
        flat = {name: stored[name] for name in (*FLAT_OPTIONS, "background_image") if name in stored}
        options = stored.get("options")
        return super().shown(stored) | flat | (options if isinstance(options, dict) else {})

    @model_validator(mode="before")
    @classmethod
    def _from_flat(cls, stored: Any) -> Any:
        """Gather the options that release 0.2.0 has beside the other fields."""
        if not isinstance(stored, dict):
            return stored
        fields = dict(stored)
        flat = {name: fields.pop(name) for name in FLAT_OPTIONS if name in fields}
        image = ("background",) if fields.pop("background_image", False) else ()
        together = {"options": flat | fields.get("options", {})}
        return fields | together | {"uploads": (*image, *fields.get("uploads", ()))}

    @model_serializer(mode="wrap")
    def _to_flat(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Put these options back where workers of release 0.2.0 read them."""
        fields: dict[str, Any] = serialize(self)
        options, uploads = fields.pop("options", {}), list(fields.pop("uploads", ()))
        fields |= {name: options.pop(name) for name in FLAT_OPTIONS if name in options}
        if "background" in uploads:
            uploads.remove("background")
            fields["background_image"] = True
        return fields | ({"options": options} if options else {}) | ({"uploads": uploads} if uploads else {})


Spec = TypeVar("Spec", bound=JobSpec)
Body = TypeVar("Body", bound=BaseModel)


def validate(spec: type[Body], body: Any, extra: Literal["forbid", "ignore"] = "forbid") -> Body:
    """Return the job, or the part of a job, in a request's body. `extra` says what becomes of unknown fields.

    Raises `InvalidInput` that names the first wrong field.
    """
    try:
        return spec.model_validate(body, extra=extra)
    except ValidationError as error:
        raise InvalidInput(*_first(error)) from None


def read_spec(spec: type[Spec], text: str) -> Spec:
    """Return the job that some version of Stoker has stored as JSON. Unknown fields are ignored.

    Raises `Unsupported` if this version cannot read it.
    """
    try:
        return spec.model_validate_json(text, extra="ignore")
    except ValidationError as error:
        field, message = _first(error)
        raise Unsupported(f"this version cannot read its {field}: {message}") from error


def _first(error: ValidationError) -> tuple[str, str]:
    """Return the first field that is wrong, and what is wrong with it."""
    first = error.errors()[0]
    is_object = first["type"] in ("dict_type", "model_type")  # pydantic's own message names a class
    return ".".join(map(str, first["loc"])) or "body", "must be an object" if is_object else first["msg"]
