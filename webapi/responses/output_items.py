"""The items of a response's output as they grow, and the events that tell of them."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from worker.jobs.events import LoggedEvent, Reasoning, ToolCall

__all__ = ["End", "ItemEvent", "OutputItem", "key_of", "new_item"]

#: The type of an event, and its fields. The fold adds the number of the event, and the item's id and place.
ItemEvent = tuple[str, dict[str, Any]]
#: How an item ends: complete, or with the response before its own end.
End = Literal["completed", "incomplete"]


class TextItem:
    """A message or reasoning: an item with one part, whose text comes in deltas."""

    def __init__(self, key: str, item_id: str) -> None:
        #: What tells the item from the next one: all events of an item have the same key.
        self.key = key
        self.is_message = key == "message"
        self._part = "output_text" if self.is_message else "reasoning_text"
        self._texts: list[str] = []
        self._logprobs: list[Any] = []
        fields: dict[str, Any] = {"role": "assistant"} if self.is_message else {"summary": []}
        #: The item as it is now.
        self.item: dict[str, Any] = {
            "id": item_id, "type": key, "status": "in_progress", "content": [], **fields
        }  # fmt: skip

    def open(self) -> Iterator[ItemEvent]:
        """Yield the events of the item's start."""
        yield "response.output_item.added", {"item": self.item}
        yield "response.content_part.added", {"content_index": 0, "part": self._whole_part()}

    def add(self, data: Mapping[str, Any]) -> Iterator[ItemEvent]:
        """Yield the event of new text."""
        self._texts.append(data["text"])
        delta = {"content_index": 0, "delta": data["text"]}
        if self.is_message:
            self._logprobs += data.get("logprobs") or ()
            delta["logprobs"] = data.get("logprobs") or []
        yield f"response.{self._part}.delta", delta

    def close(self, end: End) -> Iterator[ItemEvent]:
        """Yield the events of the item's end."""
        part = self._whole_part()
        self.item = self.item | {"status": end, "content": [part]}
        done = {name: value for name, value in part.items() if name in ("text", "logprobs")}
        yield f"response.{self._part}.done", {"content_index": 0, **done}
        yield "response.content_part.done", {"content_index": 0, "part": part}
        yield "response.output_item.done", {"item": self.item}

    def _whole_part(self) -> dict[str, Any]:
        more = {"annotations": [], "logprobs": [*self._logprobs]} if self.is_message else {}
        return {"type": self._part, "text": "".join(self._texts), **more}


class CallItem:
    """A call of a function, whose arguments come in deltas."""

    def __init__(self, key: str, item_id: str, data: Mapping[str, Any]) -> None:
        self.key = key
        self._arguments: list[str] = []
        self.item: dict[str, Any] = {
            "id": item_id,
            "type": "function_call",
            "status": "in_progress",
            "call_id": data.get("id", ""),
            "name": data.get("name", ""),
            "arguments": "",
        }

    def open(self) -> Iterator[ItemEvent]:
        """Yield the event of the item's start."""
        yield "response.output_item.added", {"item": self.item}

    def add(self, data: Mapping[str, Any]) -> Iterator[ItemEvent]:
        """Yield the event of a new part of the arguments, if there is one."""
        if data["arguments"]:
            self._arguments.append(data["arguments"])
            yield "response.function_call_arguments.delta", {"delta": data["arguments"]}

    def close(self, end: End) -> Iterator[ItemEvent]:
        """Yield the events of the item's end."""
        arguments = "".join(self._arguments)
        self.item = self.item | {"status": end, "arguments": arguments}
        yield (
            "response.function_call_arguments.done",
            {"arguments": arguments, "name": self.item["name"]},
        )
        yield "response.output_item.done", {"item": self.item}


OutputItem = TextItem | CallItem


def key_of(event: LoggedEvent) -> str:
    """Return the key of the item to which an event of the answer belongs. It is empty if it adds nothing."""
    if event.type == ToolCall.type:
        return f"call {event.data['index']}"
    if not event.data["text"]:  # hidden reasoning, or the end of an answer
        return ""
    return "reasoning" if event.type == Reasoning.type else "message"


def new_item(key: str, job_id: str, place: int, data: Mapping[str, Any]) -> OutputItem:
    """Return the item of this key, which begins with an event of these fields, at its place in the output."""
    if key.startswith("call"):
        return CallItem(key, f"fc_{job_id}_{place}", data)
    prefix = "msg" if key == "message" else "rs"
    return TextItem(key, f"{prefix}_{job_id}_{place}")
