"""An event of a job, as the client returns it."""

from typing import Any

from worker.jobs.events import Event, parse_event

__all__ = ["JobEvent"]


class JobEvent(dict[str, Any]):
    """The JSON object of an event: `event["type"]`, `event["n"]`, `event["text"]`.

    It has all fields that the API has sent, also those of a type that this version of Stoker does not know.
    """

    @property
    def body(self) -> Event | None:
        """The typed event without its envelope: an instance of one of the classes in `worker.jobs.events`.

        None if this version of Stoker does not know the event's type or form.
        """
        return parse_event(self)
