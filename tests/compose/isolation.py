"""Checks of what a program that was taken over in a container finds: secrets, rights, files and networks."""

import json
import socket
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import httpx

from tests.compose.flower import flower_login
from tests.compose.project import NAME, Project
from tests.support.stack import eventually

__all__ = ["check_isolation"]

SECRETS = "/var/lib/stoker/secrets"
#: The services that may reach other hosts.
OUTER = {"web", "webhooks", "flower"}
#: The published services.
PUBLISHED = {"web", "flower"}
#: Connects to a port of each address, and prints `reached` if one answers.
CONNECT = (
    "for host in {hosts}; do timeout 5 bash -c 'exec 3<>/dev/tcp/'$host'/{port}' && echo reached; done; :"
)


def check_isolation(project: Project) -> Iterator[str]:
    """Check every container of the running project, and yield a line for each property.

    Raises `AssertionError` if a container does not have it.
    """
    yield _check_secrets(project)
    yield _check_rights(project)
    yield _check_networks(project)
    yield _check_redis(project)
    yield _check_flower(project)


def _check_secrets(project: Project) -> str:
    """Check that no secret is in the description, an argument or a variable of a container."""
    names = ("redis_password", "flower_password")
    secrets = [project.exec("redis", "cat", f"{SECRETS}/{name}").strip() for name in names]
    assert len(set(secrets)) == 2, secrets
    assert min(map(len, secrets)) >= 32, secrets
    everything = project.all_containers()
    for container in everything:
        _assert_absent(secrets, json.dumps(project.inspect(container)))
    for service, container in _containers(project).items():
        _assert_absent(secrets, project.docker.run("docker", "top", container, "-eo", "pid,args"))
        variables = project.docker.run("docker", "exec", container, "sh", "-c", "cat /proc/[0-9]*/environ; :")
        # Flower takes its login from a variable of its own process.
        _assert_absent(secrets[:1] if service == "flower" else secrets, variables)
    return f"{len(everything)} containers: no secret in `docker inspect`, an argument or a variable"


def _assert_absent(secrets: Sequence[str], text: str) -> None:
    assert not any(secret in text for secret in secrets), text


def _check_rights(project: Project) -> str:
    """Check that each container's first process has no capability and a read-only root file system."""
    for service, container in _containers(project).items():
        status = project.docker.run("docker", "exec", container, "cat", "/proc/1/status", "/proc/1/mounts")
        lines = [line.split() for line in status.splitlines()]
        facts = {words[0]: words[1:] for words in lines if words[0].endswith(":")}
        for name in ("CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"):
            assert int(facts[name][0], 16) == 0, (service, name)
        assert facts["NoNewPrivs:"] == ["1"], service
        assert "0" not in facts["Uid:"], service
        [root] = [words[3].split(",") for words in lines if words[1:2] == ["/"]]
        assert root[0] == "ro", (service, root)
    return "no container has a capability, a root user or a root file system to write to"


def _check_networks(project: Project) -> str:
    """Check that only some services reach a server outside, and that only some have a published port.

    The server listens on all addresses of this machine.
    """
    networks = project.docker.run("docker", "network", "inspect", f"{NAME}_inner", f"{NAME}_outer")
    hosts = " ".join(network["IPAM"]["Config"][0]["Gateway"] for network in json.loads(networks))
    containers = _containers(project)
    with socket.create_server(("0.0.0.0", 0)) as server, ThreadPoolExecutor() as pool:
        command = ("bash", "-c", CONNECT.format(hosts=hosts, port=server.getsockname()[1]))
        run = [("docker", "exec", container, *command) for container in containers.values()]
        outputs = dict(zip(containers, pool.map(lambda argv: project.docker.run(*argv), run), strict=True))
    assert {service for service, output in outputs.items() if "reached" in output} == OUTER, outputs
    settings = {name: project.inspect(found)["NetworkSettings"] for name, found in containers.items()}
    assert {name for name, found in settings.items() if any(found["Ports"].values())} == PUBLISHED, settings
    return "workers and Redis reach nothing outside; only web and flower have published ports"


def _check_redis(project: Project) -> str:
    """Check that Redis asks for the password, and stays below the memory limit of its container."""
    assert "NOAUTH" in project.exec("redis", "redis-cli", "ping")
    wrong = ("redis-cli", "--no-auth-warning", "--pass", "within", "ping")
    assert "WRONGPASS" in project.exec("redis", "sh", "-c", f"{' '.join(wrong)} 2>&1")
    ask = f"REDISCLI_AUTH=$(cat {SECRETS}/redis_password) redis-cli config get maxmemory"
    maxmemory = int(project.exec("redis", "sh", "-c", ask).split()[-1])
    limit = project.inspect(_containers(project)["redis"])["HostConfig"]["Memory"]
    assert 0 < maxmemory < limit, (maxmemory, limit)
    return f"Redis refuses a wrong password and none; it takes {maxmemory} of {limit} bytes"


def _check_flower(project: Project) -> str:
    """Check that Flower answers with its login only."""
    login = flower_login(project)
    url = f"{project.flower_url}/workers"

    def answers() -> bool:
        try:
            return httpx.get(url, auth=login).status_code == 200
        except httpx.TransportError:
            return False

    eventually(answers, "Flower")
    for refused in (None, ("stoker", ""), ("stoker", "wrong")):
        assert httpx.get(url, auth=refused).status_code == 401, refused
    return "Flower answers with its login only"


def _containers(project: Project) -> dict[str, str]:
    """Return the id of one running container for each service."""
    found = {}
    for service in project.compose("ps", "--services", "--filter", "status=running").split():
        if containers := project.containers(service):
            found[service] = containers[0]
    assert found.keys() >= {"redis", "web", "webhooks", "chat-worker", "video-worker", "flower"}, found
    return found
