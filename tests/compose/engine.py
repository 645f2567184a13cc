"""The engine: Docker and Compose as they are found here; a daemon of our own where none runs."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.stack import eventually

__all__ = ["Engine", "running_engine"]

#: The least that a `docker` must be able to build, by the builder that our Dockerfile needs.
PROBE = b"FROM scratch\nLABEL probe=1\n"
START_S = 60.0


@dataclass(frozen=True, slots=True)
class Engine:
    """Runs commands in an environment in which `docker` is one that can build."""

    environment: Mapping[str, str]
    compose: Sequence[str]

    def run(self, *command: str, given: bytes = b"", more: Mapping[str, str] | None = None) -> str:
        """Its output; `more` are variables. Raises `RuntimeError` with what it said if it fails."""
        environment = {**self.environment, **(more or {})}
        done = subprocess.run(command, env=environment, input=given, capture_output=True, check=False)
        if done.returncode:
            said = (done.stdout + done.stderr).decode(errors="replace")[-4000:]
            raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{said}")
        return done.stdout.decode(errors="replace")

    def has_image(self, tag: str) -> bool:
        """Whether the image is here."""
        return bool(self.run("docker", "images", "--quiet", tag))


@contextmanager
def running_engine() -> Iterator[Engine]:
    """The daemon that runs, or one that we start and stop again."""
    with _daemon():
        environment = _environment()
        modern = _succeeds(["docker", "compose", "version"], environment)
        yield Engine(environment, ["docker", "compose"] if modern else ["docker-compose"])


@contextmanager
def _daemon() -> Iterator[None]:
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
    """With the first `docker` of the PATH that can build as we need it: some can do no more than run."""
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        if shutil.which("docker", path=folder):
            path = os.pathsep.join([folder, os.environ["PATH"]])
            environment = {**os.environ, "PATH": path, "DOCKER_BUILDKIT": "1"}
            if _succeeds(["docker", "build", "--tag", "stoker-test/probe", "-"], environment, PROBE):
                return environment
    raise RuntimeError("no `docker` of the PATH can build with BuildKit")


def _succeeds(command: Sequence[str], environment: Mapping[str, str], given: bytes = b"") -> bool:
    program = shutil.which(command[0], path=environment.get("PATH"))
    if program is None:
        return False
    argv = [program, *command[1:]]
    done = subprocess.run(argv, env=dict(environment), input=given, capture_output=True, check=False)
    return done.returncode == 0


def repository() -> Path:
    """The root of this repository."""
    return Path(__file__).parents[2]
