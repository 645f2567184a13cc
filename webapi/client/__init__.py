"""The Python client of the HTTP API: `from webapi.client import Client`."""

from webapi.client.client import Client
from webapi.client.errors import ApiError
from webapi.client.job_event import JobEvent

__all__ = ["ApiError", "Client", "JobEvent"]
