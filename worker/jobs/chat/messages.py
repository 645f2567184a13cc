"""The messages of a conversation."""

import re
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    FailFast,
    Field,
    PlainSerializer,
    StringConstraints,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
)
from pydantic_core import PydanticCustomError, PydanticKnownError

from worker.jobs.chat.nullable import Nullable
from worker.jobs.chat.tools import CallId, Text, ToolCall

__all__ = ["Message", "Messages", "TextPart", "encodable"]

#: Most strings, brackets, colons and commas in the arguments of all calls of a chat. They are JSON within a
#: text, so the limits of a request's own JSON do not reach them, and to render millions takes seconds.
MAX_ARGUMENT_TOKENS = 2**16
_TOKEN = re.compile(r'"[^"]*+"?|[\[{:,]')

#: The fields that only messages of one role have.
_ROLE_OF = {
    "tool_calls": "assistant",
    "tool_call_id": "tool",
    "reasoning": "assistant",
    "reasoning_content": "assistant",
}


def _text_only(kind: Any) -> Any:
    if kind in ("image_url", "input_audio", "file", "video_url", "audio_url"):
        raise PydanticCustomError(
            "unsupported", "{kind} cannot be read: the models here take text only", {"kind": kind}
        )
    return kind


class TextPart(Nullable):
    """One part of a message. Only text is supported."""

    type: Annotated[Literal["text"], BeforeValidator(_text_only)]
    text: Text


def encodable(text: str) -> str:
    """Return the text. Lone surrogates, which JSON allows and no tokenizer takes, are an error."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise PydanticKnownError("string_unicode") from None
    return text


def _content(content: Any, check: ValidatorFunctionWrapHandler, message: ValidationInfo) -> str | None:
    """Return the content as one text.

    A turn of the assistant may be empty, in every form that clients use.
    """
    if content in (None, []) and message.data.get("role") == "assistant":
        return None if message.data.get("tool_calls") else ""
    if isinstance(content, str):
        return encodable(content)
    if isinstance(content, list) and content:
        return "\n".join(part.text for part in check(content))
    raise PydanticCustomError("content", "must be a string, or a list of parts of type text")


if TYPE_CHECKING:
    Content = str | None
else:
    Content = Annotated[
        list[TextPart],
        FailFast(),
        WrapValidator(_content, json_schema_input_type=Text | list[TextPart] | None),
        PlainSerializer(lambda content: content, return_type=str | None),
    ]


def _role(role: Any) -> Any:
    return "system" if role == "developer" else role


class Message(Nullable):
    """One turn of a conversation. The role `developer` means the same as `system`.

    Only a message of the role `assistant` may lack its content.
    """

    role: Annotated[
        Literal["system", "user", "assistant", "tool"],
        BeforeValidator(
            _role, json_schema_input_type=Literal["system", "developer", "user", "assistant", "tool"]
        ),
    ]
    tool_calls: Annotated[list[ToolCall], FailFast()] = Field([])
    """The calls that the assistant has made in this turn."""
    content: Content = Field(default=None, validate_default=True)
    """A text, or a list of parts with texts, which are joined by line breaks."""
    tool_call_id: CallId | None = Field(default=None, validate_default=True)
    """The id of the call whose result this message of the role `tool` is."""
    reasoning: Text | None = None
    """What the assistant has thought before it answered."""
    reasoning_content: Text | None = None
    """An older name of `reasoning`."""
    name: Annotated[str, StringConstraints(max_length=256)] | None = None
    """The name of the author, for templates that use it."""

    @field_validator(*_ROLE_OF)
    @classmethod
    def _of_role(cls, value: Any, message: ValidationInfo) -> Any:
        name, role = str(message.field_name), message.data.get("role")
        if value and role and role != _ROLE_OF[name]:
            raise PydanticCustomError(
                "role", "only a message of the role {role} may have this", {"role": _ROLE_OF[name]}
            )
        if name == "tool_call_id" and role == "tool" and not value:
            raise PydanticCustomError("tool_call_id", "a message of the role tool needs the id of its call")
        return value

    def for_template(self) -> dict[str, Any]:
        """Return the message as chat templates read it. They have several names for reasoning."""
        fields = self.model_dump(exclude_defaults=True) | {"content": self.content}
        if self.tool_calls:
            fields["tool_calls"] = [call.for_template() for call in self.tool_calls]
        if reasoning := self.reasoning or self.reasoning_content:
            fields |= dict.fromkeys(("reasoning", "reasoning_content", "thinking"), reasoning)
        return fields

    def asked(self) -> list[str]:
        """Return the names of the features that a worker needs, so that it does not ignore a field.

        A name needs no feature. Older versions ignore it, and so do most templates.
        """
        return [f"messages.{name}" for name in _ROLE_OF if getattr(self, name)]


def _bounded(messages: list[Message]) -> list[Message]:
    left = MAX_ARGUMENT_TOKENS
    for call in (call for message in messages for call in message.tool_calls):
        # Without escaped quotes, the remaining ones begin and end strings.
        text = call.function.arguments.replace(r"\\", "").replace(r"\"", "")
        left -= sum(1 for _ in islice(_TOKEN.finditer(text), left + 1))
        if left < 0:
            raise PydanticCustomError("arguments", "the arguments of all calls have too many values")
    return messages


#: Validation stops at the first wrong message: to report five million would block the whole API.
Messages = Annotated[list[Message], FailFast(), AfterValidator(_bounded)]
