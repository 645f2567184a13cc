"""The list of a response's input items, made of the messages of its job."""

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import BaseModel, Field

from webapi.responses.job import ResponseJob
from worker.jobs.chat.messages import Message
from worker.jobs.errors import InvalidInput

__all__ = ["InputItemList", "InputItemQuery"]


class InputItemQuery(BaseModel):
    """The query of the list of input items."""

    after: str | None = None
    limit: int = Field(20, ge=1, le=100)
    order: Literal["asc", "desc"] = "desc"


class InputItemList(BaseModel):
    """A page of the conversation that a response answers, without its instructions."""

    object: Literal["list"] = "list"
    data: list[dict[str, Any]]
    first_id: str | None
    last_id: str | None
    has_more: bool

    @classmethod
    def of(cls, job_id: str, job: ResponseJob, query: InputItemQuery) -> "InputItemList":
        """Return the page that the query asks for. Raises `InvalidInput` if `after` is no item of the job."""
        items = [
            item
            for number, message in enumerate(job.conversation)
            for item in _items(message, f"{job_id}_{number}")
        ]
        items = items[::-1] if query.order == "desc" else items
        ids = [item["id"] for item in items]
        if query.after is not None and query.after not in ids:
            raise InvalidInput("after", f"there is no input item {query.after[:64]}")
        start = 0 if query.after is None else ids.index(query.after) + 1
        page, end = items[start : start + query.limit], start + query.limit
        first, last = (page[0]["id"], page[-1]["id"]) if page else (None, None)
        return cls(data=page, first_id=first, last_id=last, has_more=end < len(items))


def _items(message: Message, name: str) -> Iterator[dict[str, Any]]:
    """Yield the items of a message. `name` tells their ids from those of other messages."""
    done = {"status": "completed"}
    if message.role == "tool":
        output = {"call_id": message.tool_call_id, "output": message.content}
        yield {"id": f"fco_{name}", "type": "function_call_output", **output, **done}
        return
    if reasoning := message.reasoning or message.reasoning_content:
        part = {"type": "reasoning_text", "text": reasoning}
        yield {"id": f"rs_{name}", "type": "reasoning", "summary": [], "content": [part], **done}
    if message.content or not message.tool_calls:
        yield {
            "id": f"msg_{name}",
            "type": "message",
            "role": message.role,
            "content": [_part(message)],
            **done,
        }
    for number, call in enumerate(message.tool_calls):
        called = {"call_id": call.id, "name": call.function.name, "arguments": call.function.arguments}
        yield {"id": f"fc_{name}_{number}", "type": "function_call", **called, **done}


def _part(message: Message) -> dict[str, Any]:
    if message.role != "assistant":
        return {"type": "input_text", "text": message.content}
    return {"type": "output_text", "text": message.content or "", "annotations": [], "logprobs": []}
