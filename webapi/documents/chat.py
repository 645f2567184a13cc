"""The JSON document of a chat's result."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from worker.jobs.records import Record

__all__ = ["ChatResultDocument"]


class ChatReplyDocument(BaseModel):
    """The answer as a message that can be appended to the conversation."""

    model_config = ConfigDict(title="ChatReply")

    role: Literal["assistant"] = "assistant"
    content: str


class ChatChoiceDocument(BaseModel):
    """One of several choices. `text` is the content of `message`."""

    model_config = ConfigDict(title="ChatChoice")

    index: int
    message: ChatReplyDocument
    text: str
    finish_reason: str | None


class ChatResultDocument(BaseModel):
    """The result of a chat job. `text` is the content of `message`.

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
    return {"message": ChatReplyDocument(content=text), "text": text, "finish_reason": reason}
