"""The way of spans to the collector: OTLP over HTTP, in batches, by a thread of this process."""

import atexit
import logging
import threading
from collections.abc import Sequence
from importlib.metadata import version
from urllib.parse import urlsplit

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.semconv.attributes.service_attributes import SERVICE_NAME, SERVICE_VERSION
from opentelemetry.trace import Tracer

__all__ = ["Collector", "WarnOnce"]

log = logging.getLogger(__name__)

#: How long an ending process waits for its last spans, in seconds. gunicorn kills it after five.
FLUSH_S = 1.0


class WarnOnce(SpanExporter):
    """An exporter that logs when spans begin to get lost, and when they arrive again.

    OpenTelemetry's own exporter logs each failure. `host` names the collector in the log: its URL may contain
    a secret.
    """

    def __init__(self, exporter: SpanExporter, host: str) -> None:
        self._exporter = exporter
        self._host = host
        self._failing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export the spans. They are lost if that fails."""
        result = self._exporter.export(spans)
        failed = result is not SpanExportResult.SUCCESS
        if failed and not self._failing:
            log.warning("traces: %s takes no spans; they are lost until it does", self._host)
        elif self._failing and not failed:
            log.info("traces: %s takes spans again", self._host)
        self._failing = failed
        return result

    def shutdown(self) -> None:
        """Give up exports that are in progress."""
        self._exporter.shutdown()


class Collector:
    """The collector of all spans of this process. It reads the variables `OTEL_*` of OpenTelemetry's SDK.

    If the collector is away, spans are lost, and nothing else happens.
    """

    def __init__(self, endpoint: str) -> None:
        """Start the thread that exports. `endpoint` is the collector's URL without the path `/v1/traces`."""
        url = f"{endpoint.rstrip('/').removesuffix('/v1/traces')}/v1/traces"
        exporter = WarnOnce(OTLPSpanExporter(url), urlsplit(url).hostname or "the collector")
        self.resource = _resource()
        self._processor = BatchSpanProcessor(exporter)
        self._provider = TracerProvider(resource=self.resource, shutdown_on_exit=False)
        self._provider.add_span_processor(self._processor)
        self.tracer: Tracer = self._provider.get_tracer("stoker")
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # it repeats what `WarnOnce` says
        atexit.register(self.close)

    def add(self, spans: Sequence[ReadableSpan]) -> None:
        """Take finished spans, which the thread exports later."""
        for span in spans:
            self._processor.on_end(span)

    def flush(self) -> None:
        """Export all spans that were taken, or lose them. That lasts at most as long as one export may."""
        self._processor.force_flush()

    def close(self) -> None:
        """Export what was taken, within `FLUSH_S` seconds."""
        closing = threading.Thread(target=self._provider.shutdown, name="traces-close", daemon=True)
        closing.start()
        closing.join(FLUSH_S)


def _resource() -> Resource:
    """Return what describes this program. `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` come first."""
    found = Resource.create()
    own = {SERVICE_VERSION: version("stoker")}
    if str(found.attributes[SERVICE_NAME]).startswith("unknown_service"):
        own[SERVICE_NAME] = "stoker"
    return found.merge(Resource(own))
