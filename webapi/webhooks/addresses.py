"""Guards webhooks against server-side request forgery (SSRF): checks their URLs and their hosts' addresses.

A host name may resolve to another address at each lookup (DNS rebinding). So the sender looks a name up once,
checks the addresses, and connects to a checked address. The TLS certificate is still verified for the name.
"""

import ipaddress
import re
import socket
import ssl
import time
from collections.abc import Iterable, Sequence

import httpcore
import httpx

from worker.jobs.errors import DeliveryFailed, InvalidInput
from worker.jobs.settings import Settings

__all__ = ["PublicOnlyBackend", "check_url", "is_public"]

#: The longest URL that a job may have.
MAX_URL_CHARS = 2048
_HOST = re.compile(r"[a-z0-9_.:-]+")
#: The timeout of an operation that starts after the deadline. With a timeout of 0 the sockets would be
#: non-blocking, and fail in another way.
_MIN_TIMEOUT_S = 0.001

_Ip = ipaddress.IPv4Address | ipaddress.IPv6Address
_UNICAST = ipaddress.ip_network("2000::/3")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
#: Documentation addresses (RFC 9637). They are within 2000::/3, but not every Python version excludes them.
_DOCUMENTATION = ipaddress.ip_network("3fff::/20")


def is_public(address: str) -> bool:
    """Return True if the numeric address belongs to one host on the public internet.

    Addresses of tunnels (6to4, Teredo) are not public, because the tunnel may lead into the local network.
    """
    ip = _unwrapped(ipaddress.ip_address(address))
    if isinstance(ip, ipaddress.IPv4Address):
        return ip.is_global and not (ip.is_multicast or ip.is_reserved)
    tunnel = ip.sixtofour or ip.teredo
    return ip in _UNICAST and ip.is_global and not tunnel and ip not in _DOCUMENTATION


def _unwrapped(ip: _Ip) -> _Ip:
    """Return the IPv4 address inside an IPv4-mapped or NAT64 address, else the address itself."""
    if isinstance(ip, ipaddress.IPv6Address):
        if ip in _NAT64:
            return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        return ip.ipv4_mapped or ip
    return ip


def check_url(settings: Settings, url: str) -> httpx.URL:
    """Return the parsed URL after all checks that need no DNS lookup.

    Raises `InvalidInput` with the field `webhook_url` if the URL is malformed, or if its host is a private
    address and the setting `webhook_private` is off.
    """
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, ValueError) as error:
        raise _refused(f"it is not a URL: {error}") from None
    host = parsed.raw_host.decode()
    if len(url) > MAX_URL_CHARS:
        raise _refused(f"it has more than {MAX_URL_CHARS} characters")
    if parsed.scheme not in ("http", "https") or not _HOST.fullmatch(host):
        raise _refused("it must be http:// or https:// with a host")
    if parsed.userinfo:
        raise _refused("it must not hold a user or a password")
    if parsed.port is not None and not 0 < parsed.port < 65536:
        raise _refused("there is no such port")
    if not (settings.webhook_private or _may_be_public(host)):
        raise _refused("it leads to a private address")
    return parsed


def _refused(message: str) -> InvalidInput:
    return InvalidInput("webhook_url", message)


def _may_be_public(host: str) -> bool:
    if host.rstrip(".").rpartition(".")[2] == "localhost":
        return False
    try:  # parsed as the resolver does it: 127.1, 0x7f.1 and 2130706433 are numeric addresses too
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except OSError:
        return True  # a host name
    return all(is_public(str(entry[4][0])) for entry in found)


class PublicOnlyBackend(httpcore.NetworkBackend):
    """A network backend of httpcore that connects to public addresses only, unless `private` is set.

    All operations together may take `timeout_s` seconds from the creation of the backend. The methods raise
    `DeliveryFailed` for addresses that are not allowed or not reachable, and the exceptions of httpcore.
    """

    def __init__(self, *, private: bool, timeout_s: float) -> None:
        self._private = private
        self._deadline = time.monotonic() + timeout_s
        self._sockets = httpcore.SyncBackend()

    def remaining_s(self) -> float:
        """Return the seconds until the deadline, but always more than 0."""
        return max(_MIN_TIMEOUT_S, self._deadline - time.monotonic())

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to the first of the host's addresses that answers.

        Raises `DeliveryFailed` if any of the addresses is not allowed, or if none answers.
        """
        problem = "it has no address"
        for address in self._resolve(host, port):
            try:
                stream = self._sockets.connect_tcp(
                    address, port, self.remaining_s(), local_address, socket_options
                )
                return _DeadlineStream(stream, self)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                problem = str(error)
        raise DeliveryFailed(f"{host}: {problem}")

    def _resolve(self, host: str, port: int) -> Sequence[str]:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise DeliveryFailed(f"{host}: {error}") from None
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        if not self._private and not all(map(is_public, addresses)):
            raise DeliveryFailed(f"{host} leads to a private address")
        return addresses


class _DeadlineStream(httpcore.NetworkStream):
    """A stream whose operations time out at the backend's deadline."""

    def __init__(self, stream: httpcore.NetworkStream, backend: PublicOnlyBackend) -> None:
        self._stream = stream
        self._backend = backend

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._backend.remaining_s())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._backend.remaining_s())

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        secured = self._stream.start_tls(ssl_context, server_hostname, self._backend.remaining_s())
        return _DeadlineStream(secured, self._backend)

    def get_extra_info(self, info: str) -> object:
        return self._stream.get_extra_info(info)
