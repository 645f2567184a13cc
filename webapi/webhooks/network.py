"""The network of webhooks: connects to allowed addresses only, and ends each request at a deadline.

It guards against server-side request forgery (SSRF). A host name may resolve to another address at each
lookup (DNS rebinding). So a name is looked up once, its addresses are checked, and the connection goes to a
checked address. The TLS certificate is still verified for the name.
"""

import ssl
import time
from collections.abc import Iterable

import httpcore

from webapi.webhooks.destination import refusal
from webapi.webhooks.lookups import LOOKUP_S, Lookups
from worker.jobs.errors import DeliveryFailed
from worker.jobs.settings import Settings

__all__ = ["MAX_RESPONSE_BYTES", "WebhookNetwork"]

#: The most bytes that are read of one response.
MAX_RESPONSE_BYTES = 64 * 1024
_LOOKUPS = Lookups()


class WebhookNetwork(httpcore.NetworkBackend):
    """A network backend of httpcore for one request of one owner.

    All operations together may take `timeout_s` seconds from the creation of the backend. The methods raise
    `DeliveryFailed` for addresses that are not allowed or not reachable, and the exceptions of httpcore.
    """

    def __init__(self, settings: Settings, owner: str, timeout_s: float, lookups: Lookups = _LOOKUPS) -> None:
        self._settings = settings
        self._owner = owner
        self._deadline = time.monotonic() + timeout_s
        self._lookups = lookups
        self._sockets = httpcore.SyncBackend()

    def remaining_s(self) -> float:
        """Return the seconds until the deadline. Raises `httpcore.TimeoutException` if it has passed.

        Timeouts of the sockets alone would not do: each one starts again with every byte.
        """
        remaining = self._deadline - time.monotonic()
        if remaining <= 0:
            raise httpcore.TimeoutException("the request took too long")
        return remaining

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
        addresses = self._lookups.addresses(host, self._owner, min(LOOKUP_S, self.remaining_s()))
        for address in addresses:
            if problem := refusal(self._settings, address, port):
                raise DeliveryFailed(f"{host} {problem}")
        reason = "it has no address"
        for address in addresses:
            try:
                stream = self._sockets.connect_tcp(
                    address, port, self.remaining_s(), local_address, socket_options
                )
                return _BoundedStream(stream, self)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                reason = str(error)
        raise DeliveryFailed(f"{host}: {reason}")


class _BoundedStream(httpcore.NetworkStream):
    """A stream that ends at the network's deadline, and that reads `MAX_RESPONSE_BYTES` at most."""

    def __init__(self, stream: httpcore.NetworkStream, network: WebhookNetwork) -> None:
        self._stream = stream
        self._network = network
        self._bytes_left = MAX_RESPONSE_BYTES

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if self._bytes_left <= 0:
            raise DeliveryFailed(f"the head of the response has more than {MAX_RESPONSE_BYTES} bytes")
        data = self._stream.read(min(max_bytes, self._bytes_left), self._network.remaining_s())
        self._bytes_left -= len(data)
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        # httpcore's own `write` would start the timeout again with each part that the receiver takes.
        connection = self._stream.get_extra_info("socket")
        while buffer:
            connection.settimeout(self._network.remaining_s())
            try:
                buffer = buffer[connection.send(buffer) :]
            except TimeoutError:
                raise httpcore.WriteTimeout("the receiver did not read the request in time") from None
            except OSError as error:
                raise httpcore.WriteError(error) from error

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        secured = self._stream.start_tls(ssl_context, server_hostname, self._network.remaining_s())
        return _BoundedStream(secured, self._network)

    def get_extra_info(self, info: str) -> object:
        return self._stream.get_extra_info(info)
