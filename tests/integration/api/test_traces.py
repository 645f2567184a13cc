"""The traces that a collector gets: requests, and the jobs that they make."""

import json
from collections.abc import Iterator

import pytest

from tests.support.ledger import lapse
from tests.support.otlp import ReceivedSpan, Receiver, receiving
from tests.support.stack import eventually
from tests.support.web.answering_worker import answering
from tests.support.web.webstack import HELLO, Web, serve
from webapi.keys.keys import Keys
from worker.jobs.events import Failed, Succeeded, Token
from worker.jobs.trace_context import TraceContext

CLIENT = TraceContext("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", state="congo=t61")
HEADERS = {"traceparent": CLIENT.traceparent, "tracestate": CLIENT.state}


@pytest.fixture(scope="module")
def collector() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def server(redis_url: str, tmp_path_factory: pytest.TempPathFactory, collector: Receiver) -> Iterator[Web]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")  # milliseconds until spans of requests are sent
        with serve(redis_url, tmp_path_factory.mktemp("home"), otlp_endpoint=collector.url) as web:
            yield web


def spans_of(collector: Receiver, trace_id: str, count: int) -> dict[str, ReceivedSpan]:
    """Wait for so many spans of the trace, and return them by their names and attempts."""

    def found() -> list[ReceivedSpan] | None:
        spans = collector.of_trace(trace_id)
        return spans if len(spans) >= count else None

    spans = eventually(found, f"{count} spans")
    assert len(spans) == count
    attempts = {span.id: span.attributes.get("stoker.attempt") for span in spans}
    numbers = [attempts[span.id] or attempts.get(span.parent) for span in spans]
    return {f"{span.name} {n}" if n else span.name: span for span, n in zip(spans, numbers, strict=True)}


def test_trace_of_a_chat_has_each_attempt_and_the_client_as_its_root(web: Web, collector: Receiver) -> None:
    body = HELLO | {"temperature": 0.5, "max_tokens": 7}
    job_id = web.http.post("/v1/jobs/chat", json=body, headers=HEADERS).json()["id"]
    web.worker.claim(job_id)
    web.worker.append(job_id, Token("The", 0, 1))
    lapse(web.ledger, web.worker.name)
    assert web.ledger.requeue(job_id, web.worker.name, "worker_lost")
    web.worker.claim(job_id)
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 1}}
    result = {"text": "The end", "finish_reason": "stop"}
    web.worker.append(job_id, Token(" end", 1, 1), Succeeded(result, usage), usage=usage, result=result)
    spans = spans_of(collector, CLIENT.trace_id, 6)
    post, send = spans["POST /v1/jobs/chat"], spans["send chat.tiny"]
    lost, last = spans["process chat.tiny 1"], spans["process chat.tiny 2"]
    cut, run = spans["chat tiny 1"], spans["chat tiny 2"]
    parents = [span.parent for span in (post, send, lost, cut, last, run)]
    assert parents == [CLIENT.span_id, post.id, send.id, lost.id, send.id, last.id]
    kinds = [span.kind for span in (post, send, lost, cut)]
    assert kinds == ["SERVER", "PRODUCER", "CONSUMER", "INTERNAL"]
    assert [span for span in spans.values() if span.failed] == [lost, cut]
    assert {span.state for span in spans.values()} == {CLIENT.state}
    assert (lost.links, last.links) == ([], [(CLIENT.trace_id, lost.id)])
    assert lost.attributes["stoker.requeue.reason"] == lost.attributes["error.type"] == "worker_lost"
    assert post.attributes == {
        "http.request.method": "POST",
        "http.route": "/v1/jobs/chat",
        "http.response.status_code": 202,
        "url.path": "/v1/jobs/chat",
        "url.scheme": "http",
    }
    assert last.attributes == {
        "messaging.system": "stoker",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "chat.tiny",
        "messaging.message.id": job_id,
        "stoker.attempt": 2,
        "stoker.attempt.outcome": "succeeded",
        "stoker.worker": web.worker.name,
        "stoker.device": "cpu",
    }
    waited_s = run.attributes.pop("gen_ai.response.time_to_first_chunk")
    assert 0 <= waited_s <= (run.end - run.start) / 1e9
    assert run.attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "stoker",
        "gen_ai.request.model": "tiny",
        "gen_ai.request.max_tokens": 7,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.response.id": job_id,
        "gen_ai.response.model": "tiny",
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.usage.input_tokens": 3,
        "gen_ai.usage.output_tokens": 2,
        "gen_ai.usage.cache_read.input_tokens": 1,
    }
    assert post.resource["service.name"] == "stoker"
    assert send.start <= lost.start <= cut.end <= lost.end <= last.start <= last.end


def cancel_and_delete(web: Web, trace: TraceContext) -> str:
    """Submit a chat in this trace, cancel and delete it, and return the `traceparent` that was stored."""
    headers = {"traceparent": trace.traceparent}
    job_id = web.http.post("/v1/jobs/chat", json=HELLO, headers=headers).json()["id"]
    stored = web.ledger.get(job_id).trace
    web.http.post(f"/v1/jobs/{job_id}/cancel").raise_for_status()
    web.http.delete(f"/v1/jobs/{job_id}").raise_for_status()
    return stored or ""


def test_deleted_job_has_its_spans(web: Web, collector: Receiver) -> None:
    trace = TraceContext("1" * 32, "2" * 16)
    cancel_and_delete(web, trace)
    send = spans_of(collector, trace.trace_id, 2)["send chat.tiny"]
    assert (send.failed, send.attributes["stoker.job.state"]) == (False, "canceled")


def test_trace_that_the_client_does_not_record_has_no_spans(web: Web, collector: Receiver) -> None:
    unrecorded, recorded = TraceContext("3" * 32, "4" * 16, sampled=False), TraceContext("5" * 32, "6" * 16)
    stored = [cancel_and_delete(web, trace) for trace in (unrecorded, recorded)]
    spans_of(collector, recorded.trace_id, 2)
    assert collector.of_trace(unrecorded.trace_id) == []
    assert [text[:35] for text in stored] == [t.traceparent[:35] for t in (unrecorded, recorded)]


def test_spans_have_no_secret_and_no_content(web: Web, collector: Receiver) -> None:
    contents = [f"planted-{name}" for name in ("prompt", "stop", "hook", "answer", "fault")]
    prompt, stop, hook, answer, fault = contents
    key = Keys(web.ledger.store).create("me").text
    body = {
        "messages": [{"role": "user", "content": prompt}],
        "stop": [stop],
        "webhook_url": f"https://example.com/{hook}?{hook}",
    }
    traces, secrets = [TraceContext(digit * 32, "8" * 16) for digit in "78"], [*contents, key]
    for trace, end in zip(
        traces, (Succeeded({"text": answer}, {}), Failed("engine_failed", fault)), strict=True
    ):
        given = {"traceparent": trace.traceparent, "Idempotency-Key": f"{key}{trace.trace_id}"}
        headers = given | {"Authorization": f"Bearer {key}"}
        job_id = web.http.post("/v1/jobs/chat", json=body, headers=headers).json()["id"]
        token = web.http.post(f"/v1/jobs/{job_id}/token", headers=headers).json()["token"]
        secrets.append(token)
        web.worker.claim(job_id)
        web.worker.append(job_id, Token(answer, 0, 1), end)
        events = web.http.get(f"/v1/jobs/{job_id}/events?token={token}", headers=given)
        assert answer in events.text
    for trace in traces:
        spans_of(collector, trace.trace_id, 6)
    sent = b"".join(collector.bodies)
    assert b"engine_failed" in sent
    assert [text for text in secrets if text.encode() in sent] == []


@pytest.mark.long
def test_jobs_of_a_batch_have_traces_of_their_own_with_a_link_to_the_batch(
    web: Web, collector: Receiver
) -> None:
    trace = TraceContext("9" * 32, "a" * 16)
    line = {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": HELLO}
    file = {"file": ("in.jsonl", json.dumps(line))}
    file_id = web.http.post("/v1/files", files=file, data={"purpose": "batch"}).json()["id"]
    body = {"input_file_id": file_id, "endpoint": line["url"], "completion_window": "24h"}
    with answering(web):
        web.http.post("/v1/batches", json=body, headers={"traceparent": trace.traceparent}).raise_for_status()

        def linked() -> list[ReceivedSpan]:
            return [span for span in collector.spans if span.links and span.links[0][0] == trace.trace_id]

        [send] = eventually(linked, "the span of a job")
    [post] = spans_of(collector, trace.trace_id, 1).values()
    assert (send.name, send.parent, send.links) == ("send chat.tiny", "", [(trace.trace_id, post.id)])
    assert send.trace_id != trace.trace_id
