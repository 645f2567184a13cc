"""The event source: a job's events as a client reads them, over broken connections too."""

import json
import time
from collections.abc import Iterator

import httpx
from httpx_sse import connect_sse

from webapi.client.errors import ApiError, Json, check
from worker.jobs.events import TERMINAL

__all__ = ["events"]

#: Event streams send a comment every 15 s: one silent for longer is broken.
STREAM_TIMEOUT_S = 45.0
#: Waits before each new try at a broken event stream; one event resets them.
RETRIES_S = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0)


def events(http: httpx.Client, job_id: str, after: int = 0) -> Iterator[Json]:
    """The job's events to its end, from the one after `after`; a broken stream is resumed."""
    failures = 0
    while True:
        try:
            for event in _stream(http, job_id, after):
                after, failures = event["n"], 0
                yield event
                if event["type"] in TERMINAL:
                    return
        except httpx.TransportError as error:
            if failures == len(RETRIES_S):
                raise ApiError(f"the event stream at {_root(http)} is broken: {error}") from error
        time.sleep(RETRIES_S[failures])
        failures += 1


def _stream(http: httpx.Client, job_id: str, after: int) -> Iterator[Json]:
    headers, path = {"Last-Event-ID": str(after)}, f"/v1/jobs/{job_id}/events"
    with connect_sse(http, "GET", path, headers=headers, timeout=STREAM_TIMEOUT_S) as source:
        if source.response.status_code >= 500:  # the API is being restarted
            raise httpx.RemoteProtocolError(f"status {source.response.status_code}")
        check(source.response)
        if source.response.status_code == httpx.codes.NO_CONTENT:  # nothing comes after `after`
            return
        for sse in source.iter_sse():
            if sse.data:  # httpx-sse makes an empty event of a heartbeat
                yield json.loads(sse.data)
    raise httpx.RemoteProtocolError("it ended before the job did")


def _root(http: httpx.Client) -> str:
    return str(http.base_url).rstrip("/")
