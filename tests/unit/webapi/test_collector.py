"""The way of spans to a collector that may be away."""

import logging
import sys
from collections.abc import Sequence

import pytest
from flask import Flask
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from tests.support.otlp import receiving
from tests.support.stack import free_port
from webapi.services.backend import Backend
from webapi.tracing.ended_jobs import EndedJobs
from webapi.tracing.exporter import Collector, WarnOnce
from webapi.tracing.job_spans import job_spans
from webapi.tracing.register import register
from webapi.tracing.request_trace import job_trace
from worker.jobs.errors import ConfigurationError
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.settings import Settings
from worker.jobs.specs import ChatJob, validate

CHAT = validate(ChatJob, {"messages": [{"role": "user", "content": "Hi"}]})


class Scripted(SpanExporter):
    """An exporter with these results."""

    def __init__(self, *results: bool) -> None:
        self._results = list(results)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.SUCCESS if self._results.pop(0) else SpanExportResult.FAILURE


def end_job(ledger: Ledger, job_id: str) -> None:
    settings = Settings(otlp_endpoint="http://127.0.0.1:4318")
    ledger.submit(job_id, "chat.test", CHAT, trace=job_trace(settings, job_id))
    ledger.cancel(job_id)


def own_records(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """Return the records of the exporter. Threads of other tests log, too."""
    return [record for record in caplog.records if record.name == "webapi.tracing.exporter"]


def test_lost_spans_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "webapi.tracing.exporter")
    exporter = WarnOnce(Scripted(True, False, False, True, False), "collector")
    for _ in range(5):
        exporter.export([])
    assert [record.levelname for record in own_records(caplog)] == ["WARNING", "INFO", "WARNING"]


def test_spans_of_ended_jobs_arrive_once(ledger: Ledger) -> None:
    with receiving() as receiver:
        collector = Collector(f"{receiver.url}/")
        first, second = (EndedJobs(ledger, collector) for _ in range(2))
        for job_id in ("a", "b"):
            end_job(ledger, job_id)
        assert not first.run_round()
        end_job(ledger, "c")
        assert not second.run_round()  # the first one has the lease
        first.run_round()
        first.run_round()
        collector.close()
    assert [span.attributes["messaging.message.id"] for span in receiver.spans] == ["a", "b", "c"]


def exported_jobs(ledger: Ledger) -> list[object]:
    """Export the spans of ended jobs in one round. Return the jobs of the spans that the collector gets."""
    with receiving() as receiver:
        collector = Collector(receiver.url)
        EndedJobs(ledger, collector).run_round()
        collector.close()
    return [span.attributes["messaging.message.id"] for span in receiver.spans]


def test_job_that_is_deleted_before_its_turn_is_left_out(ledger: Ledger) -> None:
    for job_id in ("a", "b"):
        end_job(ledger, job_id)
    ledger.store.client.delete(ledger.store.channel("a") + ":record")
    assert exported_jobs(ledger) == ["b"]


def test_job_whose_spans_cannot_be_made_stops_no_others(ledger: Ledger) -> None:
    for job_id in ("a", "b"):
        end_job(ledger, job_id)
    ledger.store.client.hset(ledger.store.channel("a") + ":record", "spec", "not JSON")
    ledger.store.client.hset(ledger.store.channel("a") + ":record", "created_at", "never")
    assert exported_jobs(ledger) == ["b"]


def test_absent_collector_costs_the_spans_only(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.1")
    collector = Collector(f"http://127.0.0.1:{free_port()}/planted-secret")
    ended = EndedJobs(ledger, collector)
    for job_id in ("a", "b"):
        end_job(ledger, job_id)
        ended.run_round()
    collector.close()
    assert ledger.store.client.zcard(ledger.store.key("traces")) == 0
    assert ledger.get("a").state == "canceled"
    lines = [record.getMessage() for record in own_records(caplog)]
    assert lines == ["traces: 127.0.0.1 takes no spans; they are lost until it does"]


def test_many_jobs_are_kept_for_the_collector_up_to_a_limit(ledger: Ledger) -> None:
    key, client = ledger.store.key("traces"), ledger.store.client
    client.zadd(key, {f"old-{n}": n for n in range(10_000)})
    end_job(ledger, "a")
    assert client.zcard(key) == 10_000
    assert client.zscore(key, "old-0") is None
    assert client.zscore(key, "a") is not None


def test_spans_have_the_name_of_the_service(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "chats")
    with receiving() as receiver:
        collector = Collector(receiver.url)
        end_job(ledger, "a")
        collector.add(job_spans(ledger.get("a"), ledger.events("a"), collector.resource))
        collector.close()
    assert [span.resource["service.name"] for span in receiver.spans] == ["chats"]


def test_endpoint_without_the_extra_is_refused(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "webapi.tracing.exporter", None)
    backend = Backend.from_settings(settings.replace(otlp_endpoint="http://127.0.0.1:4318"))
    with pytest.raises(ConfigurationError, match="needs the extra otel"):
        register(Flask("test"), backend)
    backend.store.close()
