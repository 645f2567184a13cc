"""The JSON document of a chat's result."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from worker.jobs.records import Record

__all__ = ["ChatResultDocument", "ToolCallDocument"]


class CalledFunctionDocument(BaseModel):
    """The name of a called function, and the JSON text of its arguments, as the model has written them."""

    model_config = ConfigDict(title="CalledFunction")

    name: str
    arguments: str


class ToolCallDocument(BaseModel):
    """A call of a tool. The id stays the same if another worker continues the job."""

    model_config = ConfigDict(title="CalledTool")

    id: str
    type: Literal["function"] = "function"
    function: CalledFunctionDocument


class ChatReplyDocument(BaseModel):
    """The answer as a message that can be appended to the conversation.

    Its `content` is null if it has calls of tools and no text.
    """

    model_config = ConfigDict(title="ChatReply")

    role: Literal["assistant"] = "assistant"
    content: str | None
    reasoning: str = Field("", exclude_if=lambda reasoning: not reasoning)
    tool_calls: list[ToolCallDocument] = Field([], exclude_if=lambda calls: not calls)


class ChatChoiceDocument(BaseModel):
    """One of several choices. `text` is the content of `message`, or empty."""

    model_config = ConfigDict(title="ChatChoice")

    index: int
    message: ChatReplyDocument
    text: str
    finish_reason: str | None


class ChatResultDocument(BaseModel):
    """The result of a chat job. `text` is the content of `message`, or empty.

    A chat of several choices also has `choices`, and the other fields are those of the first choice.
    """

    model_config = ConfigDict(title="ChatResult")

    id: str
    message: ChatReplyDocument
    text: str
    finish_reason: str | None
    choices: list[ChatChoiceDocument] = Field([], exclude_if=lambda choices: not choices)
    usage: dict[str, Any] | None

    @classmethod
    def from_record(cls, record: Record) -> "ChatResultDocument":
        """Return the result in the record of a chat that has succeeded."""
        result = record.result or {}
        choices = [
            ChatChoiceDocument(index=choice["index"], **_reply(choice))
            for choice in result.get("choices", ())
        ]
        return cls(id=record.id, **_reply(result), choices=choices, usage=record.usage)


def _reply(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that a result and a choice share."""
    text = result.get("text", "")
    reason = result.get("finish_reason")
    calls, reasoning = result.get("tool_calls", []), result.get("reasoning", "")
    content = None if calls and not text else text
    message = ChatReplyDocument(content=content, reasoning=reasoning, tool_calls=calls)
    return {"message": message, "text": text, "finish_reason": reason}
