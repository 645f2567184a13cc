"""The checks before the processes of a stack start: packages, the address, and Redis."""

import socket
import time
from collections.abc import Callable
from importlib.util import find_spec

import click
from redis.exceptions import RedisError

from worker.jobs.connection.client import connect
from worker.jobs.connection.refusals import Refusal, is_away, is_denied
from worker.jobs.errors import ConfigurationError, StokerError
from worker.jobs.settings import Settings

__all__ = ["CannotStart", "free_port", "require", "wait_for_redis"]

#: Seconds that Redis has to answer after its start, and the time between two questions.
REDIS_START_S = 30.0
RETRY_S = 0.02


class CannotStart(StokerError):
    """The stack cannot start: a port is taken, or another stack runs in its home."""

    code = "cannot_start"


def require(package: str, extra: str) -> None:
    """Raise `ConfigurationError` if the package is not installed, which comes with Stoker's `extra`."""
    if find_spec(package) is None:
        raise ConfigurationError(
            f"{package} is not installed: install Stoker with its extra, as in pip install 'stoker[{extra}]'"
        )


def free_port(host: str, port: int) -> int:
    """Return `port`, or any free port for 0. Raises `CannotStart` if the API cannot listen there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.create_server((host, port), family=family) as probe:
            return int(probe.getsockname()[1])
    except OSError as error:
        reason = str(error.strerror).partition(" (while")[0]
        way_out = "choose another address with --host and --port (STOKER_HOST, STOKER_PORT)"
        raise CannotStart(f"cannot listen on {host}:{port}: {reason}: {way_out}") from error


def wait_for_redis(settings: Settings, tick: Callable[[], None] = lambda: None) -> None:
    """Wait until Redis answers, and call `tick` meanwhile. Raises `RedisError` if it does not come."""
    started, told = time.monotonic(), False
    with connect(settings) as client:
        while True:
            tick()
            try:
                client.ping()
            except Refusal as refusal:  # it is there: all processes wait until it takes writes
                if refusal.code != "LOADING":
                    return
            except RedisError as error:
                lasting = is_denied(error) or not is_away(error)
                if lasting or time.monotonic() > started + REDIS_START_S:
                    raise
                if not told:
                    click.echo(f"waiting for Redis, at most {REDIS_START_S:.0f} s")
                told = True
            else:
                return
            time.sleep(RETRY_S)
