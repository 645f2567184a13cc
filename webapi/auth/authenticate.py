"""Authentication: before each request, whose it is."""

from urllib.parse import urlsplit

from flask import Flask, g, request

from webapi.auth import stream_tokens
from webapi.auth.public_bind import is_loopback
from webapi.services.backend import Backend, current_backend
from worker.jobs.errors import Unauthorized

__all__ = ["register"]

#: For load balancers and readers of the documentation.
PUBLIC_PATHS = ("/livez", "/readyz", "/openapi.json", "/docs")

_NO_KEY_YET = (
    "There is no API key yet: until then the API answers only this machine, by a loopback name, and no "
    "pages of other origins. Make one with `stoker keys create NAME`, or start the API with --no-auth."
)


def register(app: Flask) -> None:
    """Let nobody in without a valid key, once there are keys."""
    app.before_request(_authenticate)


def _authenticate() -> None:
    """Set `g.owner`. A preflight has no key, and OPTIONS tells no secrets. Raises `Unauthorized`."""
    backend = current_backend()
    if backend.settings.no_auth or request.method == "OPTIONS":
        return
    if request.path in PUBLIC_PATHS or request.path.startswith("/docs/"):
        return
    try:
        g.owner = _key_id(backend)
    except Unauthorized:
        if backend.keys.any():
            raise
        if not _is_local(backend):
            raise Unauthorized(_NO_KEY_YET) from None


def _key_id(backend: Backend) -> str:
    try:
        given = request.authorization
    except ValueError:  # Basic with what is not even ASCII
        raise Unauthorized from None
    if given is not None and given.type == "bearer":
        return backend.keys.check(given.token or "").id
    token = request.args.get("token") or request.cookies.get(stream_tokens.COOKIE)
    if token and request.endpoint in stream_tokens.READ_ENDPOINTS and request.method in ("GET", "HEAD"):
        return stream_tokens.owner(backend, token, (request.view_args or {})["job_id"])
    raise Unauthorized


def _is_local(backend: Backend) -> bool:
    """Whether this machine's user calls us, and not a page elsewhere through the user's browser.

    Such a page may send requests to loopback addresses, with its own origin; or name its own host as ours
    (DNS rebinding), but then the Host header tells.
    """
    settings, origin = backend.settings, request.headers.get("Origin")
    own = {None, request.host_url.rstrip("/"), *settings.origins}
    host = urlsplit(f"//{request.host}").hostname or ""
    return is_loopback(settings.host) and is_loopback(host) and origin in own
