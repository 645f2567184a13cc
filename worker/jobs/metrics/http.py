"""The metrics of HTTP, which each API process gathers and adds to those in Redis."""

from worker.jobs.metrics.metric import MICROSECONDS, Histogram

__all__ = ["HTTP_METRICS", "REQUEST_SECONDS"]

REQUEST_SECONDS = Histogram(
    "stoker_http_request_seconds",
    "Seconds from the head of a request to the first byte of its answer.",
    ("route", "method", "status"),
    MICROSECONDS,
    (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0),
)

HTTP_METRICS = (REQUEST_SECONDS,)
