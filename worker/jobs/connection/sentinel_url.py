"""The URL of Redis: one server, or a group of servers that Redis Sentinel watches."""

from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import SplitResult, urlsplit

from redis.backoff import NoBackoff
from redis.connection import SSLConnection, parse_url
from redis.retry import Retry

from worker.jobs.errors import ConfigurationError

__all__ = ["SentinelUrl"]

#: The port of a Sentinel whose address has none.
SENTINEL_PORT = 26379
#: The longest wait for the answer of one Sentinel, in seconds.
SENTINEL_TIMEOUT_S = 1.0
#: Query parameters that belong to the connections to the Sentinels, and the names that redis-py gives them.
SENTINEL_OPTIONS = {"sentinel_username": "username", "sentinel_password": "password"}


@dataclass(frozen=True, slots=True)
class SentinelUrl:
    """The parts of a URL such as `sentinel://user:password@h1:26379,h2:26379/mymaster?db=0`.

    The scheme `sentinels` means TLS to the servers and to the Sentinels. The user and the password are those
    of the Redis servers. The query has the options of redis-py's `rediss://` URLs (`db`, `ssl_ca_certs`, …),
    and `sentinel_username` and `sentinel_password`.
    """

    sentinels: tuple[tuple[str, int], ...]
    #: The name by which the Sentinels know the group of servers.
    service: str
    tls: bool
    #: Options of redis-py's connections to the servers: db, username, password, and options of TLS.
    server_options: dict[str, Any]
    #: Options of redis-py's connections to the Sentinels: username, password, timeouts, and options of TLS.
    sentinel_options: dict[str, Any]

    @classmethod
    def parse(cls, url: str) -> Self | None:
        """Return the parts of the URL, or None if it is the URL of one server.

        Raises `ConfigurationError` if it is a Sentinel URL without a Sentinel or a service name.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("sentinel", "sentinels"):
            return None
        addresses = parts.netloc.rpartition("@")[2].split(",")
        service = parts.path.strip("/")
        if not service or not all(addresses):
            raise ConfigurationError("STOKER_REDIS_URL must look like sentinel://host:26379,…/mymaster?db=0")
        tls = parts.scheme == "sentinels"
        options = _parse_options(parts, tls)
        tls_options = {name: value for name, value in options.items() if name.startswith("ssl_")}
        if tls:
            tls_options["ssl"] = True
        login = {own: options.pop(name) for name, own in SENTINEL_OPTIONS.items() if name in options}
        sentinels = tuple(_parse_address(address) for address in addresses)
        return cls(sentinels, service, tls, options, _timeouts() | tls_options | login)


def _parse_options(parts: SplitResult, tls: bool) -> dict[str, Any]:
    """Return the options in the URL's query and its user and password, as redis-py reads them."""
    login = parts.netloc.rpartition("@")[0]
    as_server = parts._replace(scheme="rediss" if tls else "redis", netloc=f"{login}@server", path="")
    options = parse_url(as_server.geturl())  # type: ignore[no-untyped-call]
    del options["host"]
    if options.pop("connection_class", None) not in (None, SSLConnection):
        raise ConfigurationError("STOKER_REDIS_URL cannot combine Sentinels with a Unix socket")
    return dict(options)


def _timeouts() -> dict[str, Any]:
    """Return options with which a Sentinel that is away delays the question to the next one only a little."""
    return {
        "socket_timeout": SENTINEL_TIMEOUT_S,
        "socket_connect_timeout": SENTINEL_TIMEOUT_S,
        "retry": Retry(NoBackoff(), retries=0),
    }


def _parse_address(address: str) -> tuple[str, int]:
    """Return the host and the port of an address such as `host:26379` or `[::1]:26379`."""
    parts = urlsplit(f"//{address}")
    try:
        return parts.hostname or "", parts.port or SENTINEL_PORT
    except ValueError as error:
        raise ConfigurationError(f"STOKER_REDIS_URL: {address} is not the address of a Sentinel") from error
