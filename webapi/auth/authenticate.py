"""Authentication of every request by API key or stream token, and the check of the key's scope."""

from urllib.parse import urlsplit

from flask import Flask, current_app, g, request
from werkzeug.exceptions import MethodNotAllowed

from webapi.auth import access, audit, stream_tokens
from webapi.description.route import Route, route_of
from webapi.keys.key import Key
from webapi.services.backend import Backend, current_backend
from worker.jobs.errors import Forbidden, MistypedKey, Unauthorized
from worker.jobs.loopback import is_loopback

__all__ = ["register"]

#: Headers that proxies add, beside all that begin with `X-Forwarded-`.
PROXY_HEADERS = {"forwarded", "via", "x-real-ip"}

_NO_KEY_YET = (
    "There is no API key yet. Until there is one, the API answers only requests from this machine to a "
    "loopback name, none from pages of other origins, and none that came through a proxy. Make a key with "
    "`stoker keys create NAME`, or start the API with --no-auth."
)


def register(app: Flask) -> None:
    """Refuse requests without a valid key as soon as any key exists, and keys without the route's scope."""
    app.before_request(_authenticate)


def _authenticate() -> None:
    """Set `g.key` to the caller's key. Raises `Unauthorized` and `Forbidden`.

    OPTIONS needs no key: a browser sends none with a preflight request, and the answer tells no secrets. A
    path without a route needs a key, but no scope.
    """
    backend, route = current_backend(), _route()
    scope = route.scope if route else None
    if backend.settings.no_auth or request.method == "OPTIONS" or scope == "public":
        return
    try:
        g.key = _key(backend, route)
    except MistypedKey:
        raise
    except Unauthorized:
        if backend.keys.any():
            raise
        if not _is_local(backend):
            raise Unauthorized(_NO_KEY_YET) from None
        return
    if backend.keys.note_use(g.key.id):
        audit.log("key_used")
    if scope and not access.may(scope):
        raise Forbidden(f"This API key lacks the scope `{scope}`. It has: {', '.join(g.key.scopes)}.")


def _route() -> Route | None:
    """Return the route of the request's path, for another method if the path does not have this one."""
    error, endpoint = request.routing_exception, request.endpoint
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        adapter = current_app.url_map.bind_to_environ(request.environ)
        endpoint = str(adapter.match(method=next(iter(error.valid_methods)))[0])
    return route_of(current_app, endpoint) if endpoint else None


def _key(backend: Backend, route: Route | None) -> Key:
    """Return the key in the request, or the key that made the request's stream token."""
    try:
        given = request.authorization
    except ValueError:  # a Basic header that is not ASCII
        raise Unauthorized from None
    if given is not None and given.type == "bearer":
        return backend.keys.check(given.token or "")
    token = request.args.get("token") or request.cookies.get(stream_tokens.COOKIE)
    if token and route and route.reads and request.method in ("GET", "HEAD"):
        return stream_tokens.key(backend, token, (request.view_args or {})["job_id"])
    raise Unauthorized


def _is_local(backend: Backend) -> bool:
    """Return whether a user of this machine sends the request, and not a foreign page in the user's browser.

    A foreign page can send requests to loopback addresses, but the browser adds the page's origin. It can
    also point its own host name at a loopback address (DNS rebinding), but then the Host header shows it.
    A proxy on this machine passes on requests from elsewhere. It adds headers that tell so.
    """
    names = [name.lower() for name, _ in request.headers]
    if any(name in PROXY_HEADERS or name.startswith("x-forwarded-") for name in names):
        return False
    settings, origin = backend.settings, request.headers.get("Origin")
    own = {None, request.host_url.rstrip("/"), *settings.cors_origins}
    host = urlsplit(f"//{request.host}").hostname or ""
    return is_loopback(settings.host) and is_loopback(host) and origin in own
