"""The spans that are made of a job's record and log."""

import time
from collections.abc import Sequence
from typing import Any

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes, messaging_attributes

from tests.support.ledger import append_of
from webapi.tracing import names
from webapi.tracing.context import trace_context
from webapi.tracing.job_spans import job_spans
from webapi.tracing.request_trace import job_trace
from worker.jobs.events import Batch, Event, Failed, Succeeded, Token
from worker.jobs.ledger.appends import json_fields
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.settings import Settings
from worker.jobs.specs import ChatJob, JobSpec, VideoJob, validate
from worker.jobs.trace_context import JobTrace, TraceContext

CHAT = validate(ChatJob, {"messages": [{"role": "user", "content": "Hi"}]})
RAW = validate(ChatJob, {"prompt": "One, two,", "n": 2})
VIDEO = validate(VideoJob, {"options": {}})
COLLECTED = Settings(otlp_endpoint="http://127.0.0.1:4318")


class Job:
    """A job of the ledger, and its spans by their names."""

    def __init__(self, ledger: Ledger, spec: JobSpec = CHAT, cause: TraceContext | None = None) -> None:
        self.ledger, self.id = ledger, "a"
        trace = job_trace(COLLECTED, self.id, cause)
        ledger.submit(self.id, f"{spec.kind}.test", spec, trace=trace)

    def run(self, *events: Event, at: float | None = None, **fields: Any) -> None:
        """Claim the job, and log these events at this time, by default now."""
        record = self.ledger.claim(self.id, "w1", "cpu")
        assert record
        made = append_of(
            self.ledger, self.id, record.events + 1, events, json_fields(**fields), attempt=record.attempt
        )
        self.ledger.append([made if at is None else made._replace(time=at)])

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        return job_spans(self.ledger.get(self.id), self.ledger.events(self.id), Resource({}))

    def span(self, name: str) -> ReadableSpan:
        return [span for span in self.spans if span.name == name][-1]


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def queued_traces(ledger: Ledger) -> list[str]:
    return [str(each) for each in ledger.store.client.zrange(ledger.store.key("traces"), 0, -1)]


def test_names_are_those_of_the_registry() -> None:
    modules = gen_ai_attributes, messaging_attributes
    known = {value for module in modules for value in vars(module).values() if isinstance(value, str)}
    used = {*names.GEN_AI_REQUEST.values()}
    used |= {
        value
        for name, value in vars(names).items()
        if name.startswith(("GEN_AI_", "MESSAGING_")) and isinstance(value, str)
    }
    assert len(used) > 20
    assert used - known == set()


def test_job_without_a_request_begins_a_trace_and_is_linked_to_its_cause(ledger: Ledger) -> None:
    cause = TraceContext("1" * 32, "2" * 16)
    job = Job(ledger, cause=cause)
    ledger.cancel(job.id)
    [send] = job.spans
    assert send.context is not None
    assert trace_context(send.context) == TraceContext.of_job(job.id)
    assert send.parent is None
    assert [trace_context(link.context) for link in send.links] == [cause]


def test_job_of_a_batch_that_is_not_recorded_has_no_spans(ledger: Ledger) -> None:
    job = Job(ledger, cause=TraceContext("1" * 32, "2" * 16, sampled=False))
    ledger.cancel(job.id)
    assert queued_traces(ledger) == []


def test_ids_of_spans_are_the_same_in_a_repeated_export(ledger: Ledger) -> None:
    job = Job(ledger)
    job.run(Succeeded({}, {}))
    first, again = ([span.context for span in job.spans] for _ in range(2))
    assert first == again
    assert len({context.span_id for context in first if context}) == 3


def test_job_that_expires_while_it_waits_has_the_error_in_its_first_span(ledger: Ledger) -> None:
    ledger.submit(
        "a", "chat.test", CHAT.model_copy(update={"max_queue_s": 1e-6}), trace=job_trace(COLLECTED, "a")
    )
    assert ledger.end_overdue() == ["a"]
    [send] = job_spans(ledger.get("a"), ledger.events("a"), Resource({}))
    assert attributes(send)["error.type"] == "expired"
    assert not send.status.is_ok
    assert queued_traces(ledger) == ["a"]


@pytest.mark.parametrize(("reason", "is_error"), [("drain", False), ("engine_lost", True)])
def test_attempt_that_was_handed_back_names_the_reason(ledger: Ledger, reason: Any, is_error: bool) -> None:
    job = Job(ledger)
    job.run()
    ledger.requeue(job.id, "w1", reason)
    ledger.cancel(job.id)
    send, process, run = job.spans
    assert attributes(process)["stoker.requeue.reason"] == reason
    assert [span.status.is_ok for span in (process, run)] == [not is_error] * 2
    assert attributes(send)["stoker.job.state"] == "canceled"


def test_run_of_a_lost_worker_ends_with_its_last_event(ledger: Ledger) -> None:
    job = Job(ledger)
    now = int(time.time())
    job.run(Token("Hi", 0, 1), at=now + 1)
    later = ledger.store.common_args(job.id, now + 20)
    ledger.store.scripts.eval("requeue", *later, "w1", "worker_lost", 3, "", "")
    ledger.cancel(job.id)
    _, process, run = job.spans
    assert run.end_time == (now + 1) * 10**9
    assert process.end_time == (now + 20) * 10**9


def test_failure_names_its_code_and_not_its_message(ledger: Ledger) -> None:
    job = Job(ledger)
    error = {"code": "engine_failed", "message": "planted"}
    job.run(Failed(**error), error=error)
    assert attributes(job.span("process chat.test"))["error.type"] == "engine_failed"
    assert "planted" not in "".join(span.to_json() for span in job.spans)


def test_raw_prompt_is_a_text_completion(ledger: Ledger) -> None:
    job = Job(ledger, RAW)
    choices = [{"index": n, "text": "x", "finish_reason": why} for n, why in enumerate(("stop", "length"))]
    result = {"text": "x", "finish_reason": "stop", "choices": choices}
    job.run(Succeeded(result, {}), result=result)
    run = attributes(job.span("text_completion test"))
    assert run["gen_ai.response.finish_reasons"] == ["stop", "length"]
    assert run["gen_ai.request.choice.count"] == 2


def test_video_has_the_sums_of_its_batches(ledger: Ledger) -> None:
    job = Job(ledger, VIDEO)
    batches = Batch(0, 16, 0, 0.25, {}), Batch(1, 9, 7, 0.5, {})
    job.run(*batches, Succeeded({}, {}), result={}, usage={}, stages={"1": {"decode": 0.5, "model": 0.75}})
    assert attributes(job.span("video test")) == {
        "stoker.video.model": "test",
        "stoker.video.frames": 25,
        "stoker.video.padded_frames": 7,
        "stoker.video.batches": 2,
        "stoker.video.decode_seconds": 0.5,
        "stoker.video.model_seconds": 0.75,
    }


def test_job_without_tracing_waits_for_no_export(ledger: Ledger) -> None:
    ledger.submit("a", "chat.test", CHAT, trace=JobTrace(TraceContext.of_job("a")))
    ledger.cancel("a")
    assert queued_traces(ledger) == []
