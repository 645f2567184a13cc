"""The headers `traceparent` and `tracestate` of requests that make jobs."""

from dataclasses import replace

import httpx
import pytest

from tests.support.web.answering_worker import answering
from tests.support.web.webstack import HELLO, TIMEOUT_S, Web, take_raw_prompts, upload
from worker.jobs.trace_context import TraceContext

CLIENT = TraceContext("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", state="congo=t61")
HEADERS = {"traceparent": CLIENT.traceparent, "tracestate": CLIENT.state}


def newest_trace(web: Web) -> TraceContext | None:
    record = web.ledger.page()[0]
    return TraceContext.parse(record.trace, record.tracestate)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/jobs/chat", HELLO),
        ("/v1/chat/completions", HELLO),
        ("/v1/chat/completions", HELLO | {"stream": True}),
        ("/v1/completions", {"prompt": ["One", "Two"]}),
        ("/v1/responses", {"input": "Hi"}),
        ("/v1/responses", {"input": "Hi", "background": True}),
    ],
)
def test_jobs_belong_to_the_trace_of_their_client(web: Web, path: str, body: dict[str, object]) -> None:
    take_raw_prompts(web)
    with answering(web):
        web.http.post(path, json=body, headers=HEADERS).raise_for_status()
    traces = [TraceContext.parse(record.trace, record.tracestate) for record in web.ledger.page()]
    assert traces == [CLIENT] * (2 if "prompt" in body else 1)


def test_video_belongs_to_the_trace_of_its_client(web: Web, clip: bytes) -> None:
    with httpx.Client(base_url=web.http.base_url, headers=HEADERS, timeout=TIMEOUT_S) as client:
        upload(replace(web, http=client), clip, effect="blur").raise_for_status()
    assert newest_trace(web) == CLIENT


def test_malformed_header_is_ignored(web: Web) -> None:
    headers = HEADERS | {"traceparent": "00-0-0-01"}
    assert web.http.post("/v1/jobs/chat", json=HELLO, headers=headers).status_code == 202
    assert newest_trace(web) is None


def test_retry_is_linked_to_the_trace_of_the_first_job(web: Web) -> None:
    job_id = web.http.post("/v1/jobs/chat", json=HELLO, headers=HEADERS).json()["id"]
    web.http.post(f"/v1/jobs/{job_id}/cancel").raise_for_status()
    other = TraceContext("1" * 32, "2" * 16)
    web.http.post(f"/v1/jobs/{job_id}/retry", headers={"traceparent": other.traceparent}).raise_for_status()
    record = web.ledger.page()[0]
    assert (record.trace, record.trace_link) == (other.traceparent, CLIENT.traceparent)
