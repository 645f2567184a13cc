"""Checks of the events of a response, with the types of OpenAI's client."""

from collections.abc import Sequence
from typing import Any

from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

__all__ = ["check_events", "check_response"]

_EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


def check_events(events: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Check a whole stream of events, and return the response in the last one.

    The numbers begin with 0 and have no gap, each event has the form of OpenAI's API, and the parts of each
    item add up to the item.
    """
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    items: dict[int, dict[str, Any]] = {}
    texts: dict[int, str] = {}
    for event in events:
        _EVENT.validate_python(event)
        kind, place = event["type"], event.get("output_index", -1)
        if kind == "response.output_item.added":
            assert place == len(items)
            assert event["item"]["status"] == "in_progress"
            items[place], texts[place] = event["item"], ""
        elif kind.endswith(".delta"):
            assert event["item_id"] == items[place]["id"]
            texts[place] += event["delta"]
        elif kind == "response.output_item.done":
            item = event["item"]
            assert item["id"] == items[place]["id"]
            assert _text(item) == texts[place]
            items[place] = item
    response: dict[str, Any] = events[-1]["response"]
    assert response["output"] == list(items.values())
    check_response(response)
    return response


def check_response(response: dict[str, Any]) -> None:
    """Check that the response has the form of OpenAI's API."""
    _EVENT.validate_python({"type": "response.completed", "sequence_number": 0, "response": response})


def _text(item: dict[str, Any]) -> str:
    return (
        str(item["arguments"]) if "arguments" in item else "".join(part["text"] for part in item["content"])
    )
