"""Switches tracing on if the settings name a collector. Otherwise OpenTelemetry is not imported."""

from flask import Flask

from webapi.services.backend import Backend
from worker.jobs.errors import ConfigurationError

__all__ = ["register"]


def register(app: Flask, backend: Backend) -> None:
    """Make spans of the app's requests, and of the jobs that end.

    Raises `ConfigurationError` if OpenTelemetry is not installed.
    """
    endpoint = backend.settings.otlp_endpoint
    if endpoint is None:
        return
    try:
        from webapi.tracing.ended_jobs import EndedJobs
        from webapi.tracing.exporter import Collector
        from webapi.tracing.server_spans import ServerSpans
    except ImportError as error:
        raise ConfigurationError(f"STOKER_OTLP_ENDPOINT needs the extra otel: {error}") from error
    collector = Collector(endpoint)
    ended = EndedJobs(backend.dispatcher.ledger, collector)
    backend.before_forget.append(ended.before_forget)
    ServerSpans.register(app, collector.tracer)
    ended.start()
