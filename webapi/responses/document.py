"""The documents of the Responses API: a response, and the end of one."""

from typing import Any, Literal

from pydantic import BaseModel

from webapi.responses.job import ResponseJob
from worker.jobs.records import Record

__all__ = ["DeletedResponse", "ResponseDocument", "Status", "response_id", "usage_of"]

Status = Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]


class ResponseError(BaseModel):
    """The reason why a response has failed. `message` begins with the code of the failed job."""

    code: str
    message: str


class IncompleteDetails(BaseModel):
    """The reason why the text ends early."""

    reason: Literal["max_output_tokens"]


class InputTokensDetails(BaseModel):
    """The number of tokens of the prompt that were in the engine's cache."""

    cached_tokens: int
    cache_write_tokens: int = 0


class OutputTokensDetails(BaseModel):
    """The number of tokens that are reasoning."""

    reasoning_tokens: int


class ResponseUsage(BaseModel):
    """The token counts of a response that has ended with an answer."""

    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: OutputTokensDetails
    total_tokens: int


class ResponseDocument(BaseModel):
    """A response. Times are in seconds since the epoch.

    `output` has items of the types `reasoning`, `message` and `function_call`. It is empty until the response
    has ended. Most other fields are those of the request.
    """

    id: str
    object: Literal["response"] = "response"
    created_at: int
    status: Status = "queued"
    background: bool
    completed_at: int | None = None
    error: ResponseError | None = None
    incomplete_details: IncompleteDetails | None = None
    instructions: str | None
    max_output_tokens: int | None
    max_tool_calls: int | None
    metadata: dict[str, str]
    model: str
    output: list[dict[str, Any]] = []
    parallel_tool_calls: bool
    previous_response_id: str | None
    prompt_cache_key: str | None
    reasoning: dict[str, Any]
    safety_identifier: str | None
    service_tier: str = "default"
    store: bool
    temperature: float
    text: dict[str, Any]
    tool_choice: str | dict[str, Any]
    tools: list[dict[str, Any]]
    top_logprobs: int
    top_p: float
    truncation: str
    usage: ResponseUsage | None = None
    user: str | None

    @classmethod
    def from_job(cls, record: Record, job: ResponseJob) -> "ResponseDocument":
        """Return the response of a job as it is before the job starts."""
        options = job.response.model_dump(exclude={"service_tier"})
        form = {name: value for name, value in options["text"]["format"].items() if value is not None}
        if form["type"] != "json_schema":
            form = {"type": form["type"]}
        options["text"]["format"] = form
        return cls(
            id=response_id(record.id), created_at=int(record.created_at), model=record.model, **options
        )


class DeletedResponse(BaseModel):
    """The answer to the deletion of a response."""

    id: str
    object: Literal["response"] = "response"
    deleted: Literal[True] = True


def response_id(job_id: str) -> str:
    """Return the id of the response that this job makes."""
    return f"resp_{job_id}"


def usage_of(usage: dict[str, Any]) -> dict[str, Any]:
    """Return the usage of a response in the usage of its job."""
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
    reasoning = (usage.get("completion_tokens_details") or {}).get("reasoning_tokens", 0)
    return ResponseUsage(
        input_tokens=usage["prompt_tokens"],
        input_tokens_details=InputTokensDetails(cached_tokens=cached),
        output_tokens=usage["completion_tokens"],
        output_tokens_details=OutputTokensDetails(reasoning_tokens=reasoning),
        total_tokens=usage["total_tokens"],
    ).model_dump()
