"""The loopback addresses of this machine, which no proxy can reach."""

import ipaddress
from collections.abc import Mapping

__all__ = ["is_loopback", "without_proxy"]

#: The loopback hosts, in the form of `NO_PROXY`.
HOSTS = ("localhost", "127.0.0.1", "::1")
#: The names of the variable. Programs differ in the one that they prefer.
VARIABLES = ("no_proxy", "NO_PROXY")


def is_loopback(host: str) -> bool:
    """Return whether the host is a loopback address or `localhost`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def without_proxy(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that keep requests to loopback hosts away from the proxy in `environ`.

    `HTTP_PROXY` and its relatives apply to all hosts that `NO_PROXY` does not name. The hosts that the user
    has named there stay in the list.
    """
    given = next((environ[name] for name in VARIABLES if environ.get(name)), "")
    if given.strip() == "*":  # all hosts; programs take it for that only if it stands alone
        return dict.fromkeys(VARIABLES, given)
    hosts = [host.strip() for host in given.split(",") if host.strip()]
    return dict.fromkeys(VARIABLES, ",".join([*hosts, *(host for host in HOSTS if host not in hosts)]))
