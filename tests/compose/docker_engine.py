"""Docker and Compose as they are installed on this machine, with a daemon of the test if none runs."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.stack import eventually

__all__ = ["DockerEngine", "repository", "running_docker"]

#: A Dockerfile that tells whether a `docker` can build with BuildKit, as this repository's Dockerfile needs.
PROBE = b"FROM scratch\nLABEL probe=1\n"
START_S = 60.0


@dataclass(frozen=True, slots=True)
class DockerEngine:
    """A Docker engine that can build images, and the command of its Compose."""

    #: Environment variables in which `docker` is a command that can build.
    environment: Mapping[str, str]
    compose: Sequence[str]

    def run(self, *command: str, stdin: bytes = b"", variables: Mapping[str, str] | None = None) -> str:
        """Run a command with these further environment variables, and return its output.

        Raises `RuntimeError` with the end of its output if the command fails.
        """
        environment = {**self.environment, **(variables or {})}
        done = subprocess.run(command, env=environment, input=stdin, capture_output=True, check=False)
        if done.returncode:
            output = (done.stdout + done.stderr).decode(errors="replace")[-4000:]
            raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{output}")
        return done.stdout.decode(errors="replace")

    def has_image(self, tag: str) -> bool:
        """Return whether the image exists on this machine."""
        return bool(self.run("docker", "images", "--quiet", tag))


@contextmanager
def running_docker() -> Iterator[DockerEngine]:
    """Yield the engine whose daemon runs. If none runs, start one and stop it at the end."""
    with _running_daemon():
        environment = _environment()
        modern = _succeeds(["docker", "compose", "version"], environment)
        yield DockerEngine(environment, ["docker", "compose"] if modern else ["docker-compose"])


@contextmanager
def _running_daemon() -> Iterator[None]:
    if _succeeds(["docker", "info"], os.environ):
        yield
        return
    with tempfile.NamedTemporaryFile(prefix="stoker-dockerd-", suffix=".log", delete=False) as log:
        daemon = subprocess.Popen(
            ["dockerd", "--storage-driver=overlay2"], stdout=log, stderr=log, start_new_session=True
        )
    try:
        eventually(lambda: _succeeds(["docker", "info"], os.environ), f"a daemon, see {log.name}", START_S)
        yield
    finally:
        daemon.terminate()
        daemon.wait()


def _environment() -> Mapping[str, str]:
    """Return an environment whose `docker` is the first of the PATH that can build.

    Some installations have a `docker` that can only run containers. Raises `RuntimeError` if none can build.
    """
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        if shutil.which("docker", path=folder):
            path = os.pathsep.join([folder, os.environ["PATH"]])
            environment = {**os.environ, "PATH": path, "DOCKER_BUILDKIT": "1"}
            if _succeeds(["docker", "build", "--tag", "stoker-test/probe", "-"], environment, PROBE):
                return environment
    raise RuntimeError("no `docker` of the PATH can build with BuildKit")


def _succeeds(command: Sequence[str], environment: Mapping[str, str], stdin: bytes = b"") -> bool:
    """Return whether the command exists and exits with 0."""
    program = shutil.which(command[0], path=environment.get("PATH"))
    if program is None:
        return False
    argv = [program, *command[1:]]
    done = subprocess.run(argv, env=dict(environment), input=stdin, capture_output=True, check=False)
    return done.returncode == 0


def repository() -> Path:
    """Return the root of this repository."""
    return Path(__file__).parents[2]
