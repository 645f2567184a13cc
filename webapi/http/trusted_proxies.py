"""The headers in which trusted proxies tell the scheme, the host and the path prefix that the client used."""

import ipaddress
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from flask import Flask

from worker.jobs.settings import Settings

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = ["TrustedProxies", "register"]

#: The values that are believed. A prefix such as `//host` would turn paths into URLs of another host.
_SCHEME = re.compile("https?")
_HOST = re.compile(r"[A-Za-z0-9._-]+(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?")
_PREFIX = re.compile("(/[A-Za-z0-9._~-]+)+")


def register(app: Flask, settings: Settings) -> None:
    """Make the app believe the headers of the proxies that the settings trust."""
    app.wsgi_app = TrustedProxies(app.wsgi_app, settings)  # type: ignore[method-assign]


class TrustedProxies:
    """A WSGI middleware that applies `X-Forwarded-Proto`, `-Host` and `-Prefix` of trusted proxies.

    A proxy has removed its prefix from the path. If there are several proxies, the last one tells the scheme
    and the host, and each one adds its prefix. The prefix is the start of all paths in answers
    (`request.script_root`).
    """

    def __init__(self, app: "WSGIApplication", settings: Settings) -> None:
        self._app = app
        self._trusted = settings.trusted_proxies
        self._prefix = settings.path_prefix

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Serve the request."""
        environ["SCRIPT_NAME"] = self._prefix
        if self._is_trusted(environ.get("REMOTE_ADDR", "")):
            scheme, host, prefixes = (
                [value.strip() for value in environ.get(f"HTTP_X_FORWARDED_{name}", "").split(",")]
                for name in ("PROTO", "HOST", "PREFIX")
            )
            prefix = "".join(each.rstrip("/") for each in prefixes)
            if _SCHEME.fullmatch(scheme[-1]):
                environ["wsgi.url_scheme"] = scheme[-1]
            if _HOST.fullmatch(host[-1]):
                environ["HTTP_HOST"] = host[-1]
            if _PREFIX.fullmatch(prefix):
                environ["SCRIPT_NAME"] = prefix
        return self._app(environ, start_response)

    def _is_trusted(self, host: str) -> bool:
        try:
            address = ipaddress.ip_address(host.partition("%")[0])
        except ValueError:
            return True  # a Unix socket has no addresses
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        return any(address in network for network in self._trusted)
