"""The number of connections that each address has open."""

import ipaddress
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

__all__ = ["AddressCounts", "Network"]

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
#: A host or a home usually has all addresses of such an IPv6 network.
_IPV6_PREFIX = 64


class AddressCounts:
    """Counts of the open connections of each address. All addresses of an IPv6 /64 network count as one.

    `limit` is the most of one address, or 0 without a limit. Connections from the networks in `exempt` and
    from sockets without addresses are not counted: many clients share a proxy's address.
    """

    def __init__(self, limit: int, exempt: Sequence[Network]) -> None:
        self._limit = limit
        self._exempt = exempt
        self._open: Counter[str] = Counter()

    @contextmanager
    def counted(self, host: str) -> Iterator[bool]:
        """Count a connection of the address in the block. Yields whether it is within the limit."""
        origin = self._origin(host)
        if origin is None:
            yield True
            return
        self._open[origin] += 1
        try:
            yield self._open[origin] <= self._limit
        finally:
            self._open[origin] -= 1
            if not self._open[origin]:
                del self._open[origin]

    def _origin(self, host: str) -> str | None:
        """Return the name under which the address is counted, or None if it is not counted."""
        try:
            address = ipaddress.ip_address(host.partition("%")[0])
        except ValueError:
            return None
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        if not self._limit or any(address in network for network in self._exempt):
            return None
        if isinstance(address, ipaddress.IPv6Address):
            return str(ipaddress.ip_network((address, _IPV6_PREFIX), strict=False))
        return str(address)
