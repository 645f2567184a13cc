"""The fold of a job's log: each event of the log becomes events of the response."""

from collections.abc import Iterator
from typing import Any

from webapi.responses.document import ResponseDocument, Status, usage_of
from webapi.responses.job import ResponseJob
from webapi.responses.output_items import End, ItemEvent, OutputItem, key_of, new_item
from worker.jobs.events import ANSWER, LoggedEvent
from worker.jobs.records import Record, parse_rfc3339

__all__ = ["ResponseFold"]

#: The type of the last event. OpenAI's API has none for a canceled response.
LAST_EVENT: dict[Status, str] = {
    "completed": "response.completed",
    "incomplete": "response.incomplete",
    "cancelled": "response.incomplete",
    "failed": "response.failed",
}
#: The code of a failed job that is the fault of the request. All others are the server's.
PROMPT_FAULT = "invalid_structured_outputs"


class ResponseFold:
    """A response as it grows with the log of its job.

    The events and their numbers depend on the record's constant fields and on the log alone. So every process
    makes the same ones, and a client can continue with another process behind the last event that it has.
    """

    def __init__(self, record: Record, job: ResponseJob) -> None:
        self._job_id = record.id
        #: The response as it is now, as JSON values.
        self.response: dict[str, Any] = ResponseDocument.from_job(record, job).model_dump()
        self._output: list[OutputItem] = []
        self._open: OutputItem | None = None
        self._next_number = 0

    def feed(self, event: LoggedEvent) -> Iterator[dict[str, Any]]:
        """Yield the events that follow from the next event of the log.

        The caller takes all of them. Most events of the log that are not part of the answer have none.
        """
        if event.type in ANSWER:
            yield from self._answer(event)
        elif event.terminal:
            yield from self._end(event)
        elif event.n == 1:
            yield self._lifecycle("response.created")
            yield self._lifecycle("response.queued")
        elif event.type == "started" and self.response["status"] == "queued":  # the first attempt
            self.response["status"] = "in_progress"
            yield self._lifecycle("response.in_progress")

    def error(self, code: str, message: str) -> dict[str, Any]:
        """Return the event of a response whose end cannot be known."""
        return self._numbered("error", {"code": code, "message": message, "param": None})

    def _answer(self, event: LoggedEvent) -> Iterator[dict[str, Any]]:
        key = key_of(event)
        if key and (self._open is None or self._open.key != key):
            yield from self._begin(key, event.data)
        if key and self._open:
            yield from self._of_item(self._open, self._open.add(event.data))

    def _begin(self, key: str, data: dict[str, Any]) -> Iterator[dict[str, Any]]:
        yield from self._close("completed")
        self._open = new_item(key, self._job_id, len(self._output), data)
        self._output.append(self._open)
        yield from self._of_item(self._open, self._open.open())

    def _close(self, end: End) -> Iterator[dict[str, Any]]:
        if self._open:
            yield from self._of_item(self._open, self._open.close(end))
            self._open = None

    def _end(self, event: LoggedEvent) -> Iterator[dict[str, Any]]:
        status, changes = _outcome(event)
        if status == "completed" and not self._output:  # clients read the text of the first item
            yield from self._begin("message", {})
        yield from self._close("completed" if status == "completed" else "incomplete")
        self.response |= {"status": status, "output": [each.item for each in self._output], **changes}
        yield self._lifecycle(LAST_EVENT[status])

    def _of_item(self, item: OutputItem, events: Iterator[ItemEvent]) -> Iterator[dict[str, Any]]:
        place = len(self._output) - 1  # only the last item grows
        for kind, fields in events:
            named = fields if "item" in fields else {"item_id": item.item["id"], **fields}
            yield self._numbered(kind, {"output_index": place, **named})

    def _lifecycle(self, kind: str) -> dict[str, Any]:
        return self._numbered(kind, {"response": dict(self.response)})

    def _numbered(self, kind: str, fields: dict[str, Any]) -> dict[str, Any]:
        self._next_number += 1
        return {"type": kind, "sequence_number": self._next_number - 1, **fields}


def _outcome(event: LoggedEvent) -> tuple[Status, dict[str, Any]]:
    """Return the status after a terminal event, and the fields of the response that change with it."""
    data = event.data
    if event.type == "canceled":
        return "cancelled", {}
    if event.type == "failed":
        code = "invalid_prompt" if data["code"] == PROMPT_FAULT else "server_error"
        return "failed", {"error": {"code": code, "message": f"{data['code']}: {data['message']}"}}
    changes: dict[str, Any] = {"usage": usage_of(data["usage"])}
    if data["result"]["finish_reason"] == "length":
        return "incomplete", changes | {"incomplete_details": {"reason": "max_output_tokens"}}
    return "completed", changes | {"completed_at": int(parse_rfc3339(data["time"]))}
