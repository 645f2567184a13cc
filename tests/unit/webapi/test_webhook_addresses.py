"""Tests of the list of special networks."""

import ipaddress

import pytest

from webapi.webhooks.addresses import SPECIAL_NETWORKS, is_public

PRIVATE = [
    "0.0.0.0", "10.1.2.3", "100.64.0.1", "127.0.0.1", "127.8.8.8", "169.254.169.254", "172.16.0.1",
    "168.63.129.16", "192.0.0.1", "192.0.0.192", "192.88.99.1", "192.168.1.1", "198.18.0.1", "203.0.113.1",
    "224.0.0.1", "233.1.1.1", "240.0.0.1", "255.255.255.255", "::", "::1", "::127.0.0.1",
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::7f00:1", "100::1", "2001::1",
    "2001:db8::1", "2002:7f00:1::", "2002:808:808::", "3fff::1", "5f00::1", "fc00::1", "fd00:ec2::254",
    "192.0.2.1", "192.31.196.1", "192.52.193.1", "192.175.48.1", "198.51.100.1", "2620:4f:8000::1",
    "fd12::1", "::ffff:168.63.129.16", "64:ff9b::a83f:8110", "fe80::1", "fe80::1%lo", "fec0::1", "ff02::1",
    "ff0e::1",
]  # fmt: skip
PUBLIC = [
    "8.8.8.8", "1.1.1.1", "168.63.129.15", "168.63.129.17", "100.63.255.255", "100.128.0.0",
    "2606:4700::1111", "2a00:1450::1", "::ffff:8.8.8.8", "64:ff9b::808:808",
]  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
def test_is_public_rejects_private_addresses(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_is_public_accepts_public_addresses(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("network", SPECIAL_NETWORKS, ids=str)
def test_is_public_rejects_first_and_last_address_of_special_network(
    network: ipaddress.IPv4Network | ipaddress.IPv6Network,
) -> None:
    assert not is_public(str(network[0]))
    assert not is_public(str(network[-1]))
    if network.version == 4:
        assert not is_public(f"::ffff:{network[0]}")


#: Networks that are special here, and global in `ipaddress` of at least one supported version of Python.
STRICTER = [
    "168.63.129.16/32", "192.0.0.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24",
    "192.175.48.0/24", "224.0.0.0/4", "2001::/23", "2002::/16", "2620:4f:8000::/48", "3fff::/20",
]  # fmt: skip


def test_is_public_differs_from_python_as_documented() -> None:
    """Compare with `ipaddress` of this version, at and around the edges of the special networks."""
    stricter = [ipaddress.ip_network(text) for text in STRICTER]
    edges = [edge for network in SPECIAL_NETWORKS for edge in (network[0], network[-1])]
    around = [edge + step for edge in edges for step in (-1, 0, 1) if int(edge) not in (0, 2**32 - 1)]
    for address in around:
        if is_public(str(address)):
            assert address.is_global, address
        elif address.is_global:
            assert any(address in network for network in stricter), address
