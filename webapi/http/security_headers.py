"""Security headers of every response, and CORS for the configured origins."""

from flask import Flask, Response
from flask_cors import CORS

from worker.jobs.settings import Settings

__all__ = ["register"]

#: Defaults that a route can override. A page of another origin needs CORS to show a video:
#: `<video crossorigin>`.
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",  # a URL may contain a token
    "X-Frame-Options": "DENY",
    # When a video's URL is opened, the browser shows it in a document of its own, which must load it.
    "Content-Security-Policy": "default-src 'none'; media-src 'self'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",  # responses are private, and change
}
EXPOSED = ["Location", "Retry-After", "Preference-Applied", "X-Stoker-Job", "X-Request-Id", "Content-Range"]
ALLOWED = [
    "Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID", "Prefer", "Range",
    "X-Conversation-Id", "X-Request-Id", "traceparent", "tracestate",
]  # fmt: skip
PREFLIGHT_S = 600


def register(app: Flask, settings: Settings) -> None:
    """Add security headers to every response, and CORS headers for the origins that the settings allow."""
    app.after_request(_harden)
    if settings.cors_origins:
        app.after_request(_vary)
        CORS(
            app,
            origins=list(settings.cors_origins),
            expose_headers=EXPOSED,
            allow_headers=ALLOWED,
            methods=["GET", "HEAD", "POST", "DELETE"],
            supports_credentials=True,  # the cookie of stream tokens
            max_age=PREFLIGHT_S,
            always_send=False,  # no CORS headers without an Origin header
            vary_header=False,
            intercept_exceptions=False,  # `problems` has turned exceptions into responses already
        )


def _harden(response: Response) -> Response:
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    return response


def _vary(response: Response) -> Response:
    """Vary by origin, even without an Origin header.

    Otherwise a cached response without CORS headers could be served to a page that sends an origin.
    """
    response.vary.add("Origin")
    return response
