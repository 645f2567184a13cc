"""The documents of OpenAI's batch routes."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from webapi.batches.batch import Batch, Status
from webapi.batches.endpoints import EndpointName

__all__ = ["BatchDocument", "BatchList", "BatchListing", "BatchRequest"]

Text = Annotated[str, StringConstraints(max_length=512)]
Name = Annotated[str, StringConstraints(max_length=64)]


class BatchRequest(BaseModel):
    """The body of a request for a batch. Other fields are ignored."""

    model_config = ConfigDict(extra="ignore", strict=True)

    input_file_id: str = Field(max_length=64)
    endpoint: EndpointName
    completion_window: Literal["24h"]
    metadata: dict[Name, Text] | None = Field(None, max_length=16)


class BatchFault(BaseModel):
    """Why a batch failed. `line` is that of the input file, from 1."""

    code: str
    message: str
    line: int | None
    param: str | None


class BatchFaults(BaseModel):
    """Why a batch failed."""

    object: Literal["list"] = "list"
    data: list[BatchFault]


class RequestCounts(BaseModel):
    """The numbers of requests: in all, with an answer, and with an error."""

    total: int
    completed: int
    failed: int


class InputDetails(BaseModel):
    """How many input tokens were in the engine's cache."""

    cached_tokens: int


class OutputDetails(BaseModel):
    """How many output tokens are reasoning."""

    reasoning_tokens: int


class BatchUsage(BaseModel):
    """The tokens of all answers so far."""

    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class BatchDocument(BaseModel):
    """A batch. Times are in seconds since the epoch."""

    id: str
    object: Literal["batch"] = "batch"
    endpoint: str
    model: str | None
    errors: BatchFaults | None
    input_file_id: str
    completion_window: str
    status: Status
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    in_progress_at: int | None
    expires_at: int
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: RequestCounts
    usage: BatchUsage
    metadata: dict[str, str] | None

    @classmethod
    def from_batch(cls, batch: Batch) -> "BatchDocument":
        """Return the document of the batch."""
        fields, number = batch.fields, batch.number
        names = ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")
        times: dict[str, Any] = {f"{name}_at": batch.time(f"{name}_at") for name in names}
        return cls(
            id=batch.id,
            endpoint=batch.endpoint,
            model=fields.get("model"),
            errors=batch.document("errors"),
            input_file_id=batch.input_file_id,
            completion_window=fields["completion_window"],
            status=batch.status,
            output_file_id=fields.get("output_file_id"),
            error_file_id=fields.get("error_file_id"),
            created_at=number("created_at"),
            expires_at=number("expires_at"),
            request_counts=RequestCounts(
                total=number("total"), completed=number("completed"), failed=number("failed")
            ),
            usage=BatchUsage(
                input_tokens=number("input_tokens"),
                input_tokens_details=InputDetails(cached_tokens=number("cached_tokens")),
                output_tokens=number("output_tokens"),
                output_tokens_details=OutputDetails(reasoning_tokens=number("reasoning_tokens")),
                total_tokens=number("input_tokens") + number("output_tokens"),
            ),
            metadata=batch.document("metadata"),
            **times,
        )


class BatchListing(BaseModel):
    """The query of a list of batches. The page starts with the batch that follows `after`."""

    model_config = ConfigDict(extra="ignore")

    after: str | None = None
    limit: int = Field(20, ge=1, le=100)


class BatchList(BaseModel):
    """A page of batches, newest first."""

    object: Literal["list"] = "list"
    data: list[BatchDocument]
    first_id: str | None
    last_id: str | None
    has_more: bool
