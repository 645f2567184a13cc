"""What is sent to a job's `webhook_url` at its end."""

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

from webapi.documents.jobs import JobDocument, Time
from webapi.openapi.parts import parameter, reference

__all__ = ["WEBHOOKS", "Notice"]


class Notice(BaseModel):
    """A job has ended, at `timestamp`; `data` is the job as `GET /v1/jobs/{job_id}` shows it."""

    type: Literal["job.succeeded", "job.failed", "job.canceled"]
    timestamp: Time
    data: JobDocument


WEBHOOKS: dict[str, PathItem | Reference] = {
    "jobEnded": PathItem(
        post=Operation(
            tags=["webhooks"],
            summary="A job with a `webhook_url` has ended.",
            description="Signed as Standard Webhooks says; sent again, later and later, until it is taken.",
            operationId="job_ended",
            parameters=[
                parameter("webhook-id", "The same for every try of one message.", required=True),
                parameter("webhook-timestamp", "Seconds since the epoch, of this try.", required=True),
                parameter(
                    "webhook-signature", "`v1,` and an HMAC-SHA256 of id, timestamp and body.", required=True
                ),
            ],
            requestBody=RequestBody(
                content={"application/json": MediaType(media_type_schema=reference(Notice))},
                required=True,
            ),
            responses={"2XX": Response(description="It was taken, and is not sent again.")},
        )
    )
}
