"""Chunks as Server-Sent Events, and the fields of events, for the streams of chats and of texts."""

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel

from webapi.openai.errors import error_document
from webapi.openai.translate import failure
from worker.jobs.events import LoggedEvent

__all__ = ["DONE", "choices_of", "error_chunk", "index_of", "listed", "sse"]

#: The end of every stream.
DONE = "data: [DONE]\n\n"


def error_chunk(terminal_event: LoggedEvent | None) -> str:
    """Return the end of a stream whose job did not succeed (`failure`)."""
    why = failure(terminal_event)
    return sse(error_document(why.status, why.code, why.message)) + DONE


def index_of(token: LoggedEvent) -> int:
    """Return the index of the choice of a token event. Only events of several choices have it."""
    return int(token.data.get("choice", 0))


def listed(field: str, tokens: Sequence[LoggedEvent]) -> list[Any]:
    """Return what the lists in this field of the token events contain."""
    return [entry for event in tokens for entry in event.data.get(field, ())]


def choices_of(result: dict[str, Any]) -> Sequence[dict[str, Any]]:
    """Return the choices of a job's result. A result of one choice is that choice."""
    choices: Sequence[dict[str, Any]] = result.get("choices") or [result]
    return choices


def sse(document: BaseModel) -> str:
    """Return the document as one Server-Sent Event.

    The JSON is ASCII: some clients take U+2028 and similar characters for the end of a line.
    """
    return f"data: {document.model_dump_json(ensure_ascii=True)}\n\n"
