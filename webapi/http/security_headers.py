"""Browsers: which pages may read our answers, and what browsers may do with them."""

from flask import Flask, Response
from flask_cors import CORS

from worker.jobs.settings import Settings

__all__ = ["register"]

#: A route may say otherwise of itself. Pages of other origins show a video with CORS: `<video crossorigin>`.
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",  # URLs may hold a token
    "X-Frame-Options": "DENY",
    # A video that is opened by its URL is the medium of a document that the browser makes of it.
    "Content-Security-Policy": "default-src 'none'; media-src 'self'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",  # answers are private, and change
}
EXPOSED = ["Location", "Retry-After", "Preference-Applied", "X-Stoker-Job", "Content-Range"]
ALLOWED = ["Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID", "Prefer", "Range"]
PREFLIGHT_S = 600


def register(app: Flask, settings: Settings) -> None:
    """Security headers on every answer; CORS for the origins that the settings allow."""
    app.after_request(_harden)
    if settings.origins:
        app.after_request(_vary)
        CORS(
            app,
            origins=settings.origins,
            expose_headers=EXPOSED,
            allow_headers=ALLOWED,
            methods=["GET", "HEAD", "POST", "DELETE"],
            supports_credentials=True,  # the tokens' cookie
            max_age=PREFLIGHT_S,
            always_send=False,  # to who does not ask
            vary_header=False,
            intercept_exceptions=False,  # our handlers have answered them
        )


def _harden(response: Response) -> Response:
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    return response


def _vary(response: Response) -> Response:
    """Even where no Origin was sent: a cached answer without CORS headers must not serve who sends one."""
    response.vary.add("Origin")
    return response
