"""A collector for tests: it takes OTLP over HTTP, and reads it with the protocol's own classes."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

__all__ = ["ReceivedSpan", "Receiver", "receiving"]


@dataclass(frozen=True)
class ReceivedSpan:
    """A span as it was received. Ids are hexadecimal, times are nanoseconds."""

    name: str
    kind: str
    trace_id: str
    id: str
    parent: str
    start: int
    end: int
    failed: bool
    state: str
    attributes: dict[str, Any]
    #: The trace ids and span ids of its links.
    links: Sequence[tuple[str, str]]
    resource: dict[str, Any] = field(repr=False)

    @classmethod
    def of(cls, span: Span, resource: dict[str, Any]) -> "ReceivedSpan":
        return cls(
            name=span.name,
            kind=Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
            trace_id=span.trace_id.hex(),
            id=span.span_id.hex(),
            parent=span.parent_span_id.hex(),
            start=span.start_time_unix_nano,
            end=span.end_time_unix_nano,
            failed=span.status.code == Status.STATUS_CODE_ERROR,
            state=span.trace_state,
            attributes={each.key: _value(each.value) for each in span.attributes},
            links=[(link.trace_id.hex(), link.span_id.hex()) for link in span.links],
            resource=resource,
        )


def _value(value: AnyValue) -> Any:
    if value.HasField("array_value"):
        return [_value(each) for each in value.array_value.values]
    return getattr(value, value.WhichOneof("value") or "string_value")


class Receiver:
    """The spans that were received so far, and the bodies that they came in."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.spans: list[ReceivedSpan] = []
        self.bodies: list[bytes] = []

    def take(self, body: bytes) -> None:
        message = ExportTraceServiceRequest.FromString(body)
        self.bodies.append(body)
        for group in message.resource_spans:
            resource = {each.key: _value(each.value) for each in group.resource.attributes}
            self.spans += [
                ReceivedSpan.of(span, resource) for scope in group.scope_spans for span in scope.spans
            ]

    def of_trace(self, trace_id: str) -> list[ReceivedSpan]:
        """Return the spans of the trace, in the order of their starts."""
        return sorted((span for span in self.spans if span.trace_id == trace_id), key=lambda span: span.start)


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Run a collector on a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            receiver.take(self.rfile.read(int(self.headers["Content-Length"])))
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver = Receiver(f"http://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()
