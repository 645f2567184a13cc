"""Pods of the StatefulSets `redis` and `sentinel`: processes with a name and an address of their own.

This works only in a network namespace and a mount namespace of its own, see `redis_pods.py`.
"""

import subprocess
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import IO

from tests.support.deploy import Manifest

__all__ = ["Pod", "PodNetwork"]

#: The network of the pods, in the namespace of this test.
NETWORK, BRIDGE = "10.77.0", "pods"


class PodNetwork:
    """A bridge that connects the pods with this process, and the names of the pods."""

    def __init__(self, hosts: Path) -> None:
        self._hosts = hosts
        self._addresses: dict[str, str] = {}
        self._numbers = count(10)
        hosts.write_text("127.0.0.1 localhost\n")
        _run("mount", "--bind", str(hosts), "/etc/hosts")
        _run("ip", "link", "set", "lo", "up")
        _run("ip", "link", "add", BRIDGE, "type", "bridge")
        _run("ip", "address", "add", f"{NETWORK}.1/24", "dev", BRIDGE)
        _run("ip", "link", "set", BRIDGE, "up")

    def connect(self, pid: int, name: str) -> None:
        """Give the process, which has a network namespace of its own, a new address, and publish its name."""
        number = next(self._numbers)
        device, address = f"pod{number}", f"{NETWORK}.{number}"
        _run("ip", "link", "add", device, "type", "veth", "peer", "name", "eth0", "netns", str(pid))
        _run("ip", "link", "set", device, "master", BRIDGE, "up")
        inside = ["nsenter", "--target", str(pid), "--net", "ip"]
        _run(*inside, "address", "add", f"{address}/24", "dev", "eth0")
        _run(*inside, "link", "set", "eth0", "up")
        _run(*inside, "link", "set", "lo", "up")
        self._publish({**self._addresses, name: address})

    def disconnect(self, name: str) -> None:
        """Forget the name, as the cluster's DNS does when the pod is gone."""
        self._publish({known: address for known, address in self._addresses.items() if known != name})

    def _publish(self, addresses: dict[str, str]) -> None:
        self._addresses = addresses
        lines = [f"{address} {name}" for name, address in addresses.items()]
        self._hosts.write_text("\n".join(["127.0.0.1 localhost", *lines, ""]))  # the same file stays mounted


class Pod:
    """The pod number `index` of a StatefulSet with one container.

    Its files are those of the manifest. `folders` says where the folders of its volumes are on this machine.
    """

    def __init__(
        self, network: PodNetwork, stateful_set: Manifest, index: int, folders: Mapping[str, Path]
    ) -> None:
        self.name = f"{stateful_set['metadata']['name']}-{index}"
        self.host = f"{self.name}.{stateful_set['spec']['serviceName']}"
        [container] = stateful_set["spec"]["template"]["spec"]["containers"]
        self._network, self._folders = network, folders
        self._command: list[str] = container["command"]
        self._probe: list[str] = container["readinessProbe"]["exec"]["command"]
        self._log = folders["/data"].parent / f"{self.name}.log"
        self.start()

    def start(self) -> None:
        """Start the container with a new address. Its volume is that of the last start."""
        wait = f'hostname {self.name}; read -r _; exec "$@"'
        command = ["unshare", "--net", "--uts", "sh", "-c", wait, "sh", *map(self._here, self._command)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log)
        _until_own_network(self._process.pid)
        self._network.connect(self._process.pid, self.host)
        stdin = self._process.stdin
        assert stdin is not None
        _tell(stdin)

    def kill(self) -> None:
        """Kill the container. Its name is gone, too."""
        self._process.kill()
        self._process.wait()
        self._network.disconnect(self.host)

    def is_ready(self) -> bool:
        """Return whether the readiness probe of the manifest succeeds."""
        return self.run(*self._probe).returncode == 0

    def run(self, *command: str) -> "subprocess.CompletedProcess[str]":
        """Run a command in the container, as `kubectl exec` does."""
        inside = ["nsenter", "--target", str(self._process.pid), "--net", "--uts"]
        inside += map(self._here, command)
        return subprocess.run(inside, capture_output=True, text=True, check=False)

    def _here(self, word: str) -> str:
        for folder, place in self._folders.items():
            word = word.replace(folder, str(place))
        return word


def _until_own_network(pid: int) -> None:
    """Wait until `unshare` has given the process a network of its own."""
    ours, theirs = Path("/proc/self/ns/net"), Path(f"/proc/{pid}/ns/net")
    while theirs.readlink() == ours.readlink():
        pass


def _tell(stdin: IO[bytes]) -> None:
    """Let the container's command start. Its standard input is then at its end."""
    stdin.write(b"\n")
    stdin.close()


def _run(*command: str) -> Sequence[str]:
    subprocess.run(command, check=True)
    return command
