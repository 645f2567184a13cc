"""Describes the webhook: the request that Stoker sends to a job's `webhook_url` when the job has ended."""

from typing import Literal

from openapi_pydantic import (
    MediaType,
    Operation,
    PathItem,
    Reference,
    RequestBody,
    Response,
)
from pydantic import BaseModel

from webapi.description.parts import parameter, reference
from webapi.documents.jobs import JobDocument
from worker.jobs.events import Time

__all__ = ["WEBHOOKS", "Notice"]


class Notice(BaseModel):
    """The payload of a webhook: a job ended at `timestamp`.

    `data` is the job's document, as `GET /v1/jobs/{job_id}` returns it.
    """

    type: Literal["job.succeeded", "job.failed", "job.canceled"]
    timestamp: Time
    data: JobDocument


WEBHOOKS: dict[str, PathItem | Reference] = {
    "jobEnded": PathItem(
        post=Operation(
            tags=["webhooks"],
            summary="A job with a `webhook_url` has ended.",
            description=(
                "The request is signed according to Standard Webhooks. It is repeated after longer and "
                "longer waits, until a response accepts it or the maximum number of attempts is reached."
            ),
            operationId="job_ended",
            parameters=[
                parameter("webhook-id", "The message's id, the same in all attempts.", required=True),
                parameter(
                    "webhook-timestamp",
                    "The time of this attempt, in seconds since the epoch.",
                    required=True,
                ),
                parameter(
                    "webhook-signature",
                    "`v1,` followed by the HMAC-SHA256 of id, timestamp and body.",
                    required=True,
                ),
            ],
            requestBody=RequestBody(
                content={"application/json": MediaType(media_type_schema=reference(Notice))},
                required=True,
            ),
            responses={
                "2XX": Response(description="The receiver accepts the webhook. It is not sent again.")
            },
        )
    )
}
