"""The rules for the destination of a webhook: its URL, its host, its address and its port."""

import re
import socket

import httpx

from webapi.webhooks.addresses import is_public
from worker.jobs.errors import InvalidInput
from worker.jobs.settings import Settings

__all__ = ["check_url", "refusal"]

#: The longest URL that a job may have.
MAX_URL_CHARS = 2048
_HOST = re.compile(r"[a-z0-9_.:-]+")
_DEFAULT_PORTS = {"http": 80, "https": 443}


def check_url(settings: Settings, url: str) -> httpx.URL:
    """Return the parsed URL after all checks that need no DNS lookup.

    Raises `InvalidInput` with the field `webhook_url` if the URL is malformed, or if the settings do not
    allow its host or its port.
    """
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, ValueError) as error:
        raise _refused(f"it is not a URL: {error}") from None
    host = parsed.raw_host.decode()
    if len(url) > MAX_URL_CHARS:
        raise _refused(f"it has more than {MAX_URL_CHARS} characters")
    if parsed.scheme not in _DEFAULT_PORTS or not _HOST.fullmatch(host):
        raise _refused("it must be http:// or https:// with a host")
    if parsed.userinfo:
        raise _refused("it must not hold a user or a password")
    port = _DEFAULT_PORTS[parsed.scheme] if parsed.port is None else parsed.port
    if not 0 < port < 65536:
        raise _refused("there is no such port")
    if not _is_listed(settings, host):
        raise _refused("this server does not send webhooks to its host: STOKER_WEBHOOK_HOSTS lists others")
    if problem := _host_refusal(settings, host, port):
        raise _refused(f"it {problem}")
    return parsed


def _refused(message: str) -> InvalidInput:
    return InvalidInput("webhook_url", message)


def _is_listed(settings: Settings, host: str) -> bool:
    """Return True if `webhook_hosts` is empty or lists the host: `*.` stands for one or more labels."""
    name = host.rstrip(".")
    for listed in settings.webhook_hosts:
        if name == listed or (listed.startswith("*.") and name.endswith(listed[1:])):
            return True
    return not settings.webhook_hosts


def _host_refusal(settings: Settings, host: str, port: int) -> str | None:
    """Return why no webhook may go to the host and port, or None if its addresses decide that later."""
    if host.rstrip(".").rpartition(".")[2] == "localhost":
        return refusal(settings, "127.0.0.1", port)
    try:  # parsed as the resolver does it: 127.1, 0x7f.1 and 2130706433 are numeric addresses too
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except OSError:  # a name, which may lead to a private address
        return None if settings.webhook_private else _port_refusal(settings, port)
    problems = (refusal(settings, str(entry[4][0]), port) for entry in found)
    return next(filter(None, problems), None)


def refusal(settings: Settings, address: str, port: int) -> str | None:
    """Return why no webhook may go to the numeric address and port, or None if it may."""
    if is_public(address):
        return _port_refusal(settings, port)
    return (
        None
        if settings.webhook_private
        else "leads to a private or special address, which only STOKER_WEBHOOK_PRIVATE allows"
    )


def _port_refusal(settings: Settings, port: int) -> str | None:
    if port in settings.webhook_ports:
        return None
    allowed = ", ".join(map(str, settings.webhook_ports))
    return f"leads to port {port}; STOKER_WEBHOOK_PORTS allows these: {allowed}"
