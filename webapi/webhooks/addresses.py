"""The addresses to which a webhook may go: those of hosts on the public internet.

The list of special networks is our own: the answers of Python's `ipaddress` depend on Python's version.
"""

import ipaddress

__all__ = ["SPECIAL_NETWORKS", "is_public"]

#: The entries of IANA's special-purpose address registries for IPv4 and IPv6 (October 2025), multicast, and
#: addresses of cloud platforms. IPv6 networks outside of `_UNICAST` are left out. Globally reachable entries
#: are included, because they belong to services of the network, such as 192.0.0.9 for port control.
SPECIAL_NETWORKS = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8",  # this network (RFC 791)
        "10.0.0.0/8",  # private use (RFC 1918)
        "100.64.0.0/10",  # shared by carriers (RFC 6598); 100.100.100.200 is Alibaba's metadata
        "127.0.0.0/8",  # loopback (RFC 1122)
        "168.63.129.16/32",  # Azure's platform, for its virtual machines only
        "169.254.0.0/16",  # link local (RFC 3927); 169.254.169.254 is the metadata of most clouds
        "172.16.0.0/12",  # private use (RFC 1918)
        "192.0.0.0/24",  # protocol assignments (RFC 6890); 192.0.0.192 is Oracle's metadata
        "192.0.2.0/24",  # documentation (RFC 5737)
        "192.31.196.0/24",  # AS112 (RFC 7535)
        "192.52.193.0/24",  # multicast relays (RFC 7450)
        "192.88.99.0/24",  # deprecated 6to4 relays (RFC 7526)
        "192.168.0.0/16",  # private use (RFC 1918)
        "192.175.48.0/24",  # AS112 (RFC 7534)
        "198.18.0.0/15",  # benchmarks (RFC 2544)
        "198.51.100.0/24",  # documentation (RFC 5737)
        "203.0.113.0/24",  # documentation (RFC 5737)
        "224.0.0.0/4",  # multicast (RFC 5771)
        "240.0.0.0/4",  # reserved (RFC 1112), with the broadcast address
        "2001::/23",  # protocol assignments (RFC 2928), among them tunnels (Teredo) into the local network
        "2001:db8::/32",  # documentation (RFC 3849)
        "2002::/16",  # 6to4 (RFC 3056): tunnels, which may lead into the local network
        "2620:4f:8000::/48",  # AS112 (RFC 7534)
        "3fff::/20",  # documentation (RFC 9637)
    )
)
#: IANA assigns IPv6 unicast addresses from this network only. Loopback, link local, unique local (with AWS'
#: metadata, fd00:ec2::254), multicast and all other special networks lie outside.
_UNICAST = ipaddress.ip_network("2000::/3")
#: Networks whose last 32 bits are an IPv4 address: IPv4-mapped addresses (RFC 4291), and NAT64 (RFC 6052).
_EMBEDDED_IPV4 = ipaddress.ip_network("::ffff:0:0/96"), ipaddress.ip_network("64:ff9b::/96")


def is_public(address: str) -> bool:
    """Return True if the numeric address belongs to one host on the public internet."""
    ip = ipaddress.ip_address(address)
    if any(ip in network for network in _EMBEDDED_IPV4):
        ip = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    unicast = ip.version == 4 or ip in _UNICAST
    return unicast and not any(ip in network for network in SPECIAL_NETWORKS)
