"""The API's table of the kinds of jobs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from flask.typing import ResponseReturnValue

from webapi.http.result_file import result_file
from webapi.kinds import chat
from webapi.services.backend import Backend
from worker.jobs.cards import ModelCard
from worker.jobs.errors import Unsupported
from worker.jobs.records import Record
from worker.jobs.specs import ChatJob, VideoJob

__all__ = ["API_KINDS", "ApiKind", "find_api_kind"]

#: Raises an error if the model of this card cannot take a job with this spec (of the kind's own class). It
#: calls the function in its last argument, which checks that the queue has room, before a check that takes
#: long. Returns what it has found out of the prompt, for the worker (`packed_prompt`).
Admit = Callable[[Backend, ModelCard, Any, Callable[[], None]], str]


@dataclass(frozen=True, slots=True)
class ApiKind:
    """The API's handling of the jobs of a kind. `worker/jobs/kinds.py` has what workers need, too.

    - `result`: returns the response with the result of a job. Raises `JobConflict` if there is none.
    - `admit`: see `Admit`. None means that the model takes every valid job.
    """

    result: Callable[[Record], ResponseReturnValue]
    admit: Admit | None = None


#: What the API does with each kind of `worker.jobs.kinds.KINDS`, by its name.
API_KINDS: Mapping[str, ApiKind] = {
    ChatJob.kind: ApiKind(chat.result, chat.admit),
    VideoJob.kind: ApiKind(result_file),
}


def find_api_kind(record: Record) -> ApiKind:
    """Return what the API does with the job's kind. Raises `Unsupported` if only another version knows it."""
    if kind := API_KINDS.get(record.kind):
        return kind
    raise Unsupported(f"this version has no jobs of the kind {record.kind}")
