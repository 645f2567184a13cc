"""The time that each request takes until the first byte of its answer."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from flask import Flask, Response, g, request

from webapi.services.request_metrics import RequestMetrics

__all__ = ["register"]

#: The methods that have series of their own. A client may send any word as a method.
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
OTHER_METHOD = "OTHER"
#: The route of requests whose path or method has none.
UNMATCHED = "unmatched"


def register(app: Flask, metrics: RequestMetrics) -> None:
    """Measure all requests of the app. Call it before others register functions for requests.

    So the clock starts before theirs, and stops after theirs.
    """

    def begin() -> None:
        g.began = time.perf_counter()

    def end(response: Response) -> Response:
        rule, method, began = request.url_rule, request.method, g.get("began", time.perf_counter())
        labels = rule.rule if rule else UNMATCHED, method if method in METHODS else OTHER_METHOD

        def observe() -> None:
            metrics.observe(*labels, response.status_code, time.perf_counter() - began)

        if response.is_streamed and not response.direct_passthrough:
            response.response = _Watched(response.response, observe)
        else:
            observe()
        return response

    app.before_request(begin)
    app.after_request(end)


class _Watched(Iterator[Any]):
    """The chunks of a body. It calls `observe` once: with the first chunk, or at the end if there is none."""

    def __init__(self, chunks: Iterable[Any], observe: Callable[[], None]) -> None:
        self._chunks = iter(chunks)
        self._close = getattr(chunks, "close", lambda: None)
        self._observe: Callable[[], None] | None = observe

    def __next__(self) -> Any:
        chunk = next(self._chunks)
        self._observe_once()
        return chunk

    def close(self) -> None:
        """Close the chunks, which the server does at the end of each answer."""
        self._observe_once()
        self._close()

    def _observe_once(self) -> None:
        if observe := self._observe:
            self._observe = None
            observe()
