"""The project: compose.yaml as a user runs it, with a name and a port of its own, removed at the end."""

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import click

from tests.compose.docker_engine import DockerEngine, repository
from tests.support.stack import eventually, free_port
from webapi.client import Client

__all__ = ["NAME", "Project", "running_project"]

Json = dict[str, Any]

#: The name of the project and of its images.
NAME = "stoker-test"
#: The settings that the test changes. The lease and the drain are short, so that the test takes less time. A
#: worker has few slots, so that jobs spread over the replicas, and one thread.
SETTINGS = {
    "STOKER_IMAGE": NAME,
    "STOKER_LEASE_TTL_S": "4",
    "STOKER_DRAIN_S": "3",
    "STOKER_SLOTS": "4",
    "STOKER_SEGMENT_BATCHES": "2",
    "OMP_NUM_THREADS": "1",
}


@dataclass(frozen=True, slots=True)
class Project:
    """A Compose project and the address of its API. Its methods are commands of Compose and Docker."""

    docker: DockerEngine
    url: str
    flower_url: str
    #: The environment variables of compose.yaml.
    variables: Mapping[str, str]

    def compose(self, *command: str, **variables: str) -> str:
        """Run a command of Compose with these further variables, and return its output."""
        project = ["--project-name", NAME, "--project-directory", str(repository())]
        return self.docker.run(
            *self.docker.compose, *project, *command, variables={**self.variables, **variables}
        )

    def up(self, *options: str, chat_workers: int) -> None:
        """Start all services with this many chat workers. Containers that need no change keep running."""
        self.compose("up", "--detach", "--scale", f"chat-worker={chat_workers}", *options)

    def containers(self, service: str) -> Sequence[str]:
        """Return the ids of the service's running containers."""
        return self._containers("ps", "--quiet", f"label=com.docker.compose.service={service}")

    def all_containers(self) -> Sequence[str]:
        """Return the ids of all containers of the project, also of those that have ended."""
        return self._containers("ps", "--all", "--quiet", "label=com.docker.compose.oneoff=False")

    def _containers(self, *options: str) -> Sequence[str]:
        *command, label = options
        filters = ["--filter", f"label=com.docker.compose.project={NAME}", "--filter", label]
        return self.docker.run("docker", *command, *filters).split()

    def limit_cpus(self, service: str, cores: float) -> None:
        """Limit each running container of the service to this many CPU cores."""
        self.docker.run("docker", "update", "--cpus", str(cores), *self.containers(service))

    def inspect(self, container: str) -> Json:
        """Return the output of `docker inspect` for the container."""
        return dict(json.loads(self.docker.run("docker", "inspect", container))[0])

    def exec(self, service: str, *command: str) -> str:
        """Run the command in the service's first container, and return its output."""
        return self.docker.run("docker", "exec", self.containers(service)[0], *command)

    def logs(self, service: str) -> str:
        """Return the output of the service's containers."""
        return self.compose("logs", "--no-color", service)

    def image_mib(self, tag: str) -> int:
        """Return the size of the image in MiB."""
        size = self.docker.run("docker", "image", "inspect", "--format", "{{.Size}}", tag)
        return round(int(size) / 2**20)

    def wait_until_healthy(self, service: str) -> None:
        """Wait until Docker calls the only container of the service healthy."""
        [container] = self.containers(service)

        def healthy() -> bool:
            return bool(self.inspect(container)["State"]["Health"]["Status"] == "healthy")

        eventually(healthy, f"{service} to be healthy")

    def stop(self) -> Mapping[str, int]:
        """Stop all containers, and return their exit codes by name."""
        self.compose("stop")
        return {c["Name"]: c["State"]["ExitCode"] for c in map(self.inspect, self.all_containers())}

    def down(self) -> None:
        """Remove all containers and volumes of the project."""
        self.compose("down", "--volumes", "--remove-orphans", "--timeout", "10")

    def client(self, key: str) -> Client:
        """Return a client of the API at its published port."""
        return Client(self.url, key)


@contextmanager
def running_project(docker: DockerEngine, images: Mapping[str, str]) -> Iterator[Project]:
    """Yield a project without any container, and remove all its containers when the block ends.

    If the block raises, the output of the containers is written to a file whose name is printed.
    """
    port, flower_port = str(free_port()), str(free_port())
    own = {"STOKER_PORT": port, "STOKER_FLOWER_PORT": flower_port, "COMPOSE_PROFILES": "cpu,flower"}
    addresses = (f"http://127.0.0.1:{port}", f"http://127.0.0.1:{flower_port}")
    project = Project(docker, *addresses, {**SETTINGS, **images, **own})
    project.down()  # removes what a killed test has left
    try:
        yield project
    except BaseException:
        with tempfile.NamedTemporaryFile("w", prefix="stoker-compose-", suffix=".log", delete=False) as file:
            file.write(project.compose("logs", "--no-color", "--timestamps"))
        click.echo(f"the output of the containers is in {file.name}", err=True)
        raise
    finally:
        project.down()
