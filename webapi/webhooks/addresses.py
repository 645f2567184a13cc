"""Addresses: which URLs webhooks may go to, and a network that connects to no others.

What a URL's name stands for may change between two looks at it. So it is looked up once, and the connection
goes to the very address that was judged; the TLS certificate is still checked against the name.
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

#: Longer ones are no addresses of ours to keep.
MAX_URL_CHARS = 2048
_HOST = re.compile(r"[a-z0-9_.:-]+")
#: What is left for one operation when the time is up; 0 would mean not to wait at all, in another way.
_LEAST_S = 0.001

_Ip = ipaddress.IPv4Address | ipaddress.IPv6Address
_UNICAST = ipaddress.ip_network("2000::/3")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
#: Within 2000::/3, and yet not: documentation (RFC 9637), which Python does not know of everywhere.
_DOCUMENTATION = ipaddress.ip_network("3fff::/20")


def is_public(address: str) -> bool:
    """Whether the numeric address is one host's on the internet, and leads to none of ours."""
    ip = _unwrapped(ipaddress.ip_address(address))
    if isinstance(ip, ipaddress.IPv4Address):
        return ip.is_global and not (ip.is_multicast or ip.is_reserved)
    tunnel = ip.sixtofour or ip.teredo
    return ip in _UNICAST and ip.is_global and not tunnel and ip not in _DOCUMENTATION


def _unwrapped(ip: _Ip) -> _Ip:
    """The IPv4 address that an IPv6 address only carries."""
    if isinstance(ip, ipaddress.IPv6Address):
        if ip in _NAT64:
            return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        return ip.ipv4_mapped or ip
    return ip


def check_url(settings: Settings, url: str) -> httpx.URL:
    """The URL, parsed, as far as it can be judged without asking the DNS. Raises `InvalidInput`."""
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
    try:  # as the resolver reads it: 127.1, 0x7f.1 and 2130706433 are numbers too
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except OSError:
        return True  # a name
    return all(is_public(str(entry[4][0])) for entry in found)


class PublicOnlyBackend(httpcore.NetworkBackend):
    """Connections to public addresses only (unless `private`), for `timeout_s` in all.

    Raises `DeliveryFailed` for others, and what httpcore raises.
    """

    def __init__(self, *, private: bool, timeout_s: float) -> None:
        self._private = private
        self._deadline = time.monotonic() + timeout_s
        self._sockets = httpcore.SyncBackend()

    def left_s(self) -> float:
        """Until the time is up."""
        return max(_LEAST_S, self._deadline - time.monotonic())

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to the first of the host's addresses that answers; all must be allowed."""
        problem = "it has no address"
        for address in self._look_up(host, port):
            try:
                stream = self._sockets.connect_tcp(
                    address, port, self.left_s(), local_address, socket_options
                )
                return _Timed(stream, self)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                problem = str(error)
        raise DeliveryFailed(f"{host}: {problem}")

    def _look_up(self, host: str, port: int) -> Sequence[str]:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise DeliveryFailed(f"{host}: {error}") from None
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        if not self._private and not all(map(is_public, addresses)):
            raise DeliveryFailed(f"{host} leads to a private address")
        return addresses


class _Timed(httpcore.NetworkStream):
    """A stream whose every operation ends with the network's time."""

    def __init__(self, stream: httpcore.NetworkStream, network: PublicOnlyBackend) -> None:
        self._stream = stream
        self._network = network

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._network.left_s())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._network.left_s())

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        secured = self._stream.start_tls(ssl_context, server_hostname, self._network.left_s())
        return _Timed(secured, self._network)

    def get_extra_info(self, info: str) -> object:
        return self._stream.get_extra_info(info)
