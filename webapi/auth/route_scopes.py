"""The scope that a key needs for each route."""

from collections.abc import Mapping
from typing import Literal

from webapi.keys.key import Scope

__all__ = ["ROUTE_SCOPES"]

#: The scope of each Flask endpoint. Public endpoints need no key. An endpoint that is missing needs `admin`,
#: so that a forgotten one is not open.
ROUTE_SCOPES: Mapping[str, Scope | Literal["public"]] = {
    "jobs.submit_chat": "submit",
    "jobs.submit_video": "submit",
    "jobs.cancel": "submit",
    "jobs.forget": "submit",
    "openai.complete": "submit",
    "openai_videos.create": "submit",
    "openai_videos.delete": "submit",
    "jobs.list_jobs": "read",
    "jobs.show": "read",
    "jobs.result": "read",
    "jobs.memory": "read",
    "jobs.memory_picture": "read",
    "streams.events": "read",
    "tokens.issue": "read",  # a stream token reads the events and the result of a job
    "openai.models": "read",
    "openai.model": "read",
    "openai_videos.list_videos": "read",
    "openai_videos.show": "read",
    "openai_videos.content": "read",
    "ops.queues": "read",
    "ops.workers": "read",
    "ops.metrics": "metrics",
    "ops.livez": "public",
    "ops.readyz": "public",
    "openapi.document": "public",
    "openapi.page": "public",
    "openapi.asset": "public",
}
