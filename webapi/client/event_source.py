"""Reads a job's Server-Sent Events, and resumes the stream after a broken connection."""

import time
from collections.abc import Iterator, Sequence

import httpx
from httpx_sse import connect_sse

from webapi.client.connection import job_path
from webapi.client.errors import ApiError, ApiUnavailable, check, json_object
from webapi.client.job_event import JobEvent
from worker.jobs.events import TERMINAL

__all__ = ["events"]

#: A stream without data for this time is broken: the API sends a comment every few seconds.
STREAM_TIMEOUT_S = 45.0
#: Waits in seconds before each new attempt at a broken event stream. An event starts them from the beginning.
RETRY_WAITS_S = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0)


def events(
    http: httpx.Client, job_id: str, after: int = 0, retry_waits_s: Sequence[float] = RETRY_WAITS_S
) -> Iterator[JobEvent]:
    """Yield the job's events after number `after`, up to the terminal event.

    A broken stream is resumed after the last event received.

    Raises `ApiError` if the API refuses the stream, and `ApiUnavailable` if the stream is still broken after
    all waits.
    """
    failures = 0
    while True:
        try:
            for event in _stream(http, job_id, after):
                after, failures = event["n"], 0
                yield event
                if event["type"] in TERMINAL:
                    return
            return  # the API has no events after `after`: the job has ended
        except httpx.RequestError as error:
            if failures == len(retry_waits_s):
                raise ApiUnavailable(f"the event stream at {_root(http)} is broken: {error}") from error
        time.sleep(retry_waits_s[failures])
        failures += 1


def _stream(http: httpx.Client, job_id: str, after: int) -> Iterator[JobEvent]:
    headers, path = {"Last-Event-ID": str(after)}, job_path(job_id, "events")
    with connect_sse(http, "GET", path, headers=headers, timeout=STREAM_TIMEOUT_S) as source:
        if source.response.status_code >= 500:  # the API is being restarted
            raise httpx.RemoteProtocolError(f"status {source.response.status_code}")
        check(source.response)
        if source.response.status_code == httpx.codes.NO_CONTENT:  # there are no events after `after`
            return
        for sse in source.iter_sse():
            if sse.data:  # httpx-sse turns a heartbeat comment into an event without data
                yield _event(sse.data)
    raise httpx.RemoteProtocolError("it ended before the job did")


def _event(text: str) -> JobEvent:
    """Return the event in the data of a frame. Raises `ApiError` if it has no number and no type."""
    event = JobEvent(json_object(text))
    if not (isinstance(event.get("n"), int) and isinstance(event.get("type"), str)):
        raise ApiError("the stream has something else than events: is it Stoker's API?")
    return event


def _root(http: httpx.Client) -> str:
    return str(http.base_url).rstrip("/")
