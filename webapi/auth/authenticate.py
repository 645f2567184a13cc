"""Authentication: before each request, whose it is."""

from urllib.parse import urlsplit

from flask import Flask, g, request

from webapi.auth import stream_tokens
from webapi.auth.public_bind import loopback
from webapi.services.backend import Backend, backend
from worker.jobs.errors import Unauthorized

__all__ = ["register"]

#: For load balancers and readers of the documentation.
OPEN = ("/livez", "/readyz", "/openapi.json", "/docs")

_NOT_YET = (
    "There is no API key yet: until then the API answers only this machine, by a loopback name, and no "
    "pages of other origins. Make one with `stoker keys create NAME`, or start the API with --no-auth."
)


def register(app: Flask) -> None:
    """Let nobody in without a valid key, once there are keys."""
    app.before_request(_authenticate)


def _authenticate() -> None:
    """Set `g.owner`. A preflight has no key, and OPTIONS tells no secrets. Raises `Unauthorized`."""
    stoker = backend()
    if stoker.settings.no_auth or request.method == "OPTIONS":
        return
    if request.path in OPEN or request.path.startswith("/docs/"):
        return
    try:
        g.owner = _key_id(stoker)
    except Unauthorized:
        if stoker.keys.any():
            raise
        if not _from_here(stoker):
            raise Unauthorized(_NOT_YET) from None


def _key_id(stoker: Backend) -> str:
    try:
        given = request.authorization
    except ValueError:  # Basic with what is not even ASCII
        raise Unauthorized from None
    if given is not None and given.type == "bearer":
        return stoker.keys.check(given.token or "").id
    token = request.args.get("token") or request.cookies.get(stream_tokens.COOKIE)
    if token and request.endpoint in stream_tokens.READS and request.method in ("GET", "HEAD"):
        return stream_tokens.owner(stoker, token, (request.view_args or {})["job_id"])
    raise Unauthorized


def _from_here(stoker: Backend) -> bool:
    """Whether this machine's user calls us, and not a page elsewhere through the user's browser.

    Such a page may send requests to loopback addresses, with its own origin; or name its own host as ours
    (DNS rebinding), but then the Host header tells.
    """
    settings, origin = stoker.settings, request.headers.get("Origin")
    own = {None, request.host_url.rstrip("/"), *settings.origins}
    host = urlsplit(f"//{request.host}").hostname or ""
    return loopback(settings.host) and loopback(host) and origin in own
