"""The JSON documents of a job's events, as streams, pub/sub channels and logs carry them."""

from dataclasses import fields
from functools import reduce
from operator import or_
from typing import Any, Literal

from pydantic import Field, RootModel, create_model

from worker.jobs.events import EVENTS, Envelope, Event, own_fields

__all__ = ["EventDocument"]


def _document(event: type[Event]) -> Any:
    """Return the model of an event's JSON: the envelope, the type and the event's own fields."""
    types: dict[str, Any] = {each.name: each.type for each in fields(Envelope)}
    types |= {"type": Literal[event.type], **own_fields(event)}
    # Fields that are absent rather than null. A factory, because null is not one of their values.
    absent = {
        each.name: Field(default_factory=lambda: None) for each in fields(event) if each.default is None
    }
    shapes: Any = {name: (shape, absent.get(name, ...)) for name, shape in types.items()}
    return create_model(f"{event.__name__}Event", __doc__=event.__doc__, **shapes)


_documents: Any = reduce(or_, map(_document, EVENTS.values()))


class EventDocument(RootModel[Any]):
    """An event of a job: the `data:` of a Server-Sent Event, a channel's message or an entry of the log."""

    root: _documents = Field(discriminator="type")
