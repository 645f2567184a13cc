"""OpenAI's form of an answer with reasoning and calls of tools: messages, and the deltas of a stream."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, with_config
from typing_extensions import TypedDict  # before Python 3.12 pydantic does not accept typing.TypedDict

from webapi.documents.chat import ToolCallDocument
from worker.jobs.events import LoggedEvent, Reasoning, Token

__all__ = ["AssistantMessage", "ChunkDelta", "delta_of", "message_of"]

#: The text of reasoning. The field is absent if there is none.
Reasoned = Annotated[str, Field(exclude_if=lambda text: not text)]


class AssistantMessage(BaseModel):
    """The complete answer. Its `content` is null if it has calls of tools and no text.

    `reasoning_content` is an older name of `reasoning`. Both are absent if the model has not reasoned.
    """

    role: Literal["assistant"] = "assistant"
    content: str | None
    refusal: None = None
    reasoning: Reasoned = ""
    reasoning_content: Reasoned = ""
    tool_calls: list[ToolCallDocument] = Field([], exclude_if=lambda calls: not calls)


@with_config(ConfigDict(title="FunctionDelta"))
class FunctionDelta(TypedDict, total=False):
    """The name of a function, or a part of the JSON text of its arguments."""

    name: str
    arguments: str


@with_config(ConfigDict(title="ToolCallDelta"))
class ToolCallDelta(TypedDict, total=False):
    """A part of a call of a tool. The first one has the id, the type and the name."""

    index: int
    id: str
    type: Literal["function"]
    function: FunctionDelta


@with_config(ConfigDict(title="Delta"))
class ChunkDelta(TypedDict, total=False):
    """The new part of an answer: text, reasoning or a call. The first chunk of a choice also has the role."""

    role: Literal["assistant"]
    content: str
    reasoning: str
    reasoning_content: str
    tool_calls: list[ToolCallDelta]


def message_of(result: Mapping[str, Any]) -> AssistantMessage:
    """Return the message of a choice of a job's result."""
    text, calls, reasoning = result["text"], result.get("tool_calls", []), result.get("reasoning", "")
    return AssistantMessage(
        content=None if calls and not text else text,
        reasoning=reasoning,
        reasoning_content=reasoning,
        tool_calls=calls,
    )


def delta_of(event: LoggedEvent) -> ChunkDelta:
    """Return the delta of an event of an answer. It is empty if the event has no text."""
    data = event.data
    if event.type == Token.type:
        return ChunkDelta(content=data["text"]) if data["text"] else ChunkDelta()
    if event.type == Reasoning.type:
        text = data["text"]
        return ChunkDelta(reasoning=text, reasoning_content=text) if text else ChunkDelta()
    call = ToolCallDelta(index=data["index"], function=FunctionDelta(arguments=data["arguments"]))
    if "name" in data:
        call |= {"id": data["id"], "type": "function"}
        call["function"] = FunctionDelta(name=data["name"], arguments=data["arguments"])
    return ChunkDelta(tool_calls=[call])
