"""The number of connections of one address."""

from contextlib import ExitStack
from ipaddress import ip_network

import pytest

from webapi.server.address_counts import AddressCounts


def admitted(counts: AddressCounts, *hosts: str) -> list[bool]:
    """Hold a connection from each host at once, and return which of them are within the limit."""
    with ExitStack() as stack:
        return [stack.enter_context(counts.counted(host)) for host in hosts]


def test_address_counts_limit_each_address() -> None:
    counts = AddressCounts(2, [])
    assert admitted(counts, "10.0.0.1", "10.0.0.1", "10.0.0.2", "10.0.0.1") == [True, True, True, False]
    assert admitted(counts, "10.0.0.1", "10.0.0.1") == [True, True]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.2", False),
        ("fe80::1%eth0", "fe80::1", True),
    ],
)
def test_address_counts_know_networks_and_forms(one: str, other: str, same: bool) -> None:
    assert admitted(AddressCounts(1, []), one, other) == [True, not same]


@pytest.mark.parametrize("host", ["127.0.0.1", "10.1.2.3", "::ffff:10.1.2.3", "", "/run/socket"])
def test_address_counts_exempt_proxies_and_local_sockets(host: str) -> None:
    counts = AddressCounts(1, [ip_network("127.0.0.1"), ip_network("10.0.0.0/8")])
    assert admitted(counts, *[host] * 3) == [True] * 3


def test_address_counts_without_limit_admit_all() -> None:
    assert admitted(AddressCounts(0, []), *["10.0.0.1"] * 3) == [True] * 3
