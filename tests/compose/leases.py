"""A check of GPU leases: containers that share the volume of the locks share a GPU. It needs no real GPU."""

import re
from collections.abc import Sequence

from tests.compose.docker_engine import DockerEngine
from tests.support.stack import eventually

__all__ = ["check_leases"]

#: The first step of a worker, with a GPU that does not exist. The program holds the lease until it is killed.
PROGRAM = """
import logging, signal
from worker.devices.gpus import Gpu
from worker.devices.lease import lease
from worker.jobs.settings import Settings
logging.basicConfig(level="INFO")
settings = Settings.from_env()
gpus = [Gpu("0", "GPU-of-the-test", free=80, total=80)]
held = lease("auto", settings.home_dir / "locks", lambda: gpus, patience_s=settings.device_wait_s)
print("leased", flush=True)
signal.pause()
"""


def check_leases(docker: DockerEngine, image: str, volume: str) -> str:
    """Check that three containers share one GPU, and return a line that says what they did.

    The first container leases the GPU. The second one ends without a wait, and the third one waits. Both name
    the first one as the holder. After a SIGKILL to the first container, the third one gets the GPU.
    """
    run = ["docker", "run", "--volume", f"{volume}:/var/lib/stoker/locks"]
    started: list[str] = []

    def start(wait_s: str) -> str:
        program = ["--env", f"STOKER_DEVICE_WAIT_S={wait_s}", image, "python3", "-c", PROGRAM]
        started.append(docker.run(*run, "--detach", *program).strip())
        return started[-1]

    try:
        first = start("0")
        _wait_for_log(docker, first, "leased")
        held = rf"GPU 0 is held by pid \d+ on {first[:12]}"
        impatient, patient = start("0"), start("inf")
        _wait_for_log(docker, impatient, rf"NoDevice: no GPU is free; {held}")
        _wait_for_log(docker, patient, rf"waiting up to inf s .*{held}")
        docker.run("docker", "kill", "--signal", "KILL", first)
        _wait_for_log(docker, patient, "leased")
    finally:
        _remove(docker, started)
    roles = ("one leases it", "one ends and names the holder", "one waits until SIGKILL frees the GPU")
    return f"1 GPU, 3 containers: {', '.join(roles)}"


def _wait_for_log(docker: DockerEngine, container: str, pattern: str) -> None:
    """Wait until the container's log has a match of the regular expression."""
    eventually(
        lambda: re.search(pattern, docker.run("sh", "-c", f"docker logs {container} 2>&1")),
        f"{pattern!r} from {container}",
    )


def _remove(docker: DockerEngine, containers: Sequence[str]) -> None:
    if containers:
        docker.run("docker", "rm", "--force", *containers)
