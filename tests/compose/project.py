"""The project: compose.yaml as a user runs it, under a name and a port of its own, and gone afterwards."""

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import click

from tests.compose.engine import Engine, repository
from tests.support.stack import free_port
from webapi.client import Client

__all__ = ["NAME", "Project", "running_project"]

Json = dict[str, Any]

#: Of the project, and of its images.
NAME = "stoker-test"
#: What the test changes: a short lease and drain, so that much can happen in little time; few slots, so that
#: work spreads over the replicas; and one thread for each of them.
SETTINGS = {
    "STOKER_IMAGE": NAME,
    "STOKER_LEASE_TTL_S": "4",
    "STOKER_DRAIN_S": "3",
    "STOKER_SLOTS": "4",
    "STOKER_SEGMENT_BATCHES": "2",
    "OMP_NUM_THREADS": "1",
    "STOKER_REDIS_PASSWORD": "atest",
}


@dataclass(frozen=True, slots=True)
class Project:
    """Compose's commands for it, and Docker's for its containers."""

    engine: Engine
    url: str
    variables: Mapping[str, str]

    def compose(self, *command: str, **more: str) -> str:
        """`docker compose COMMAND`; its output."""
        where = ["--project-name", NAME, "--project-directory", str(repository())]
        variables = {**self.variables, **more}
        return self.engine.run(*self.engine.compose, *where, *command, more=variables)

    def up(self, *options: str, chat_workers: int, **more: str) -> None:
        """Everything there is, with so many chat workers; containers that need not change go on."""
        self.compose("up", "--detach", "--scale", f"chat-worker={chat_workers}", *options, **more)

    def containers(self, service: str) -> Sequence[str]:
        """Ids of those of the service that run."""
        return self._containers("ps", "--quiet", f"label=com.docker.compose.service={service}")

    def every(self) -> Sequence[str]:
        """Ids of all, ended ones too."""
        return self._containers("ps", "--all", "--quiet", "label=com.docker.compose.oneoff=False")

    def _containers(self, *options: str) -> Sequence[str]:
        *command, label = options
        mine = ["--filter", f"label=com.docker.compose.project={NAME}", "--filter", label]
        return self.engine.run("docker", *command, *mine).split()

    def limit(self, service: str, cores: float) -> None:
        """Hold each of the service's containers to so much of the processor from now on."""
        self.engine.run("docker", "update", "--cpus", str(cores), *self.containers(service))

    def inspect(self, container: str) -> Json:
        """All that Docker knows of the container."""
        return dict(json.loads(self.engine.run("docker", "inspect", container))[0])

    def inside(self, service: str, *command: str) -> str:
        """Run the command in a container of the service; its output."""
        return self.engine.run("docker", "exec", self.containers(service)[0], *command)

    def logs(self, service: str) -> str:
        """What the service's containers have said."""
        return self.compose("logs", "--no-color", service)

    def image_mib(self, tag: str) -> int:
        """Its size."""
        size = self.engine.run("docker", "image", "inspect", "--format", "{{.Size}}", tag)
        return round(int(size) / 2**20)

    def down(self) -> None:
        """Remove it all, volumes too."""
        self.compose("down", "--volumes", "--remove-orphans", "--timeout", "10")

    def client(self, key: str) -> Client:
        """A client of the published port."""
        return Client(self.url, key)


@contextmanager
def running_project(engine: Engine, images: Mapping[str, str]) -> Iterator[Project]:
    """A project of which nothing runs yet, and of which nothing stays, however the block ends."""
    port = str(free_port())
    variables = {**SETTINGS, **images, "STOKER_PORT": port, "COMPOSE_PROFILES": "cpu"}
    project = Project(engine, f"http://127.0.0.1:{port}", variables)
    project.down()  # what a test that was killed has left
    try:
        yield project
    except BaseException:
        with tempfile.NamedTemporaryFile("w", prefix="stoker-compose-", suffix=".log", delete=False) as file:
            file.write(project.compose("logs", "--no-color", "--timestamps"))
        click.echo(f"what the containers said is in {file.name}", err=True)
        raise
    finally:
        project.down()
