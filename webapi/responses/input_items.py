"""The input of a response: a text or a list of items, and the messages that the model reads."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    FailFast,
    Field,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from worker.jobs.chat.nullable import Nullable
from worker.jobs.chat.tools import CallId, Text

__all__ = ["Input", "InputItem", "to_messages"]

#: The fields without which an item of a type means nothing.
_NEEDED = {
    "message": ("role", "content"),
    "function_call": ("call_id", "name"),
    "function_call_output": ("call_id", "output"),
    "reasoning": (),
}
_MEDIA = ("input_image", "input_file", "input_audio")


def _known_part(kind: Any) -> Any:
    if kind in _MEDIA:
        raise PydanticCustomError(
            "unsupported", "{kind} cannot be read: the models here take text only", {"kind": kind}
        )
    return kind


def _known_item(kind: Any) -> Any:
    if isinstance(kind, str) and kind not in _NEEDED:
        raise PydanticCustomError(
            "unsupported",
            "{kind} is not supported here, only {known}",
            {"kind": kind[:64], "known": ", ".join(_NEEDED)},
        )
    return kind


class InputPart(Nullable):
    """A part of an item's content. Only text is supported."""

    type: Annotated[
        Literal["input_text", "output_text", "reasoning_text", "summary_text", "text", "refusal"],
        BeforeValidator(_known_part),
    ]
    text: Text = ""
    refusal: Text = ""
    """The text of a part of the type `refusal`."""


def _joined(content: Any, check: ValidatorFunctionWrapHandler) -> str:
    """Return the content as one text."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise PydanticCustomError("content", "must be a string, or a list of parts with text")
    return "\n".join(part.text or part.refusal for part in check(content))


if TYPE_CHECKING:
    Content = str | None
else:
    Content = Annotated[
        list[InputPart],
        FailFast(),
        WrapValidator(_joined, json_schema_input_type=Text | list[InputPart]),
    ]


class InputItem(Nullable):
    """An item of the conversation: a message, a call of a function, its result, or reasoning.

    Items of the `output` of a response are valid here, too.
    """

    type: Annotated[
        Literal["message", "function_call", "function_call_output", "reasoning"], BeforeValidator(_known_item)
    ] = "message"
    role: Literal["system", "developer", "user", "assistant"] | None = None
    """Who has written the message."""
    content: Content = None
    """The text of a message, or the text of reasoning."""
    call_id: CallId | None = None
    """The id that a call and its result have in common."""
    name: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    """The name of the called function."""
    arguments: Text = ""
    """The JSON text of the arguments of a call."""
    output: Content = None
    """The result of a call."""

    @model_validator(mode="after")
    def _complete(self) -> "InputItem":
        for name in _NEEDED[self.type]:
            if getattr(self, name) is None:
                raise PydanticCustomError(
                    "missing", "an item of the type {type} needs {name}", {"type": self.type, "name": name}
                )
        return self


def _items(given: Any) -> Any:
    return [{"role": "user", "content": given}] if isinstance(given, str) else given


#: Validation stops at the first wrong item, as with messages.
Input = Annotated[
    list[InputItem],
    FailFast(),
    Field(min_length=1),
    BeforeValidator(_items, json_schema_input_type=Text | list[InputItem]),
]


def to_messages(items: Iterable[InputItem]) -> list[dict[str, Any]]:
    """Return the messages of the items. The reasoning, text and calls of one turn become one message."""
    messages: list[dict[str, Any]] = []
    for item in items:
        turn = messages[-1] if messages and messages[-1]["role"] == "assistant" else {}
        if item.type == "function_call_output":
            messages.append({"role": "tool", "tool_call_id": item.call_id, "content": item.output})
        elif item.type == "message" and item.role != "assistant":
            messages.append({"role": item.role, "content": item.content})
        elif item.type == "function_call":
            called = {"name": item.name, "arguments": item.arguments}
            turn = turn or _new_turn(messages)
            turn.setdefault("tool_calls", []).append({"id": item.call_id, "function": called})
        elif item.content is not None:
            reasoned = item.type == "message" and turn.keys() == {"role", "reasoning"}
            turn = turn if reasoned else _new_turn(messages)
            turn["content" if item.type == "message" else "reasoning"] = item.content
    return messages


def _new_turn(messages: list[dict[str, Any]]) -> dict[str, Any]:
    messages.append({"role": "assistant"})
    return messages[-1]
