"""Leases: containers that share the volume of the locks share a GPU, whether there is one or not."""

import re
from collections.abc import Sequence

from tests.compose.engine import Engine
from tests.support.stack import eventually

__all__ = ["check_leases"]

#: A worker's first step, with a GPU that NVML does not have to know; then it holds it.
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


def check_leases(engine: Engine, image: str, volume: str) -> str:
    """One takes it; one that has no patience and one that has it say who; a SIGKILL hands it on. In words."""
    run = ["docker", "run", "--volume", f"{volume}:/var/lib/stoker/locks"]
    started: list[str] = []

    def start(wait: str) -> str:
        program = ["--env", f"STOKER_DEVICE_WAIT_S={wait}", image, "python3", "-c", PROGRAM]
        started.append(engine.run(*run, "--detach", *program).strip())
        return started[-1]

    try:
        first = start("0")
        _says(engine, first, "leased")
        held = rf"GPU 0 is held by pid \d+ on {first[:12]}"
        hasty, patient = start("0"), start("inf")
        _says(engine, hasty, rf"NoDevice: no GPU is free; {held}")
        _says(engine, patient, rf"waiting up to inf s .*{held}")
        engine.run("docker", "kill", "--signal", "KILL", first)
        _says(engine, patient, "leased")
    finally:
        _remove(engine, started)
    return "1 GPU, 3 containers: one leases it, one ends saying who has it, one waits until SIGKILL frees it"


def _says(engine: Engine, container: str, what: str) -> None:
    eventually(
        lambda: re.search(what, engine.run("sh", "-c", f"docker logs {container} 2>&1")),
        f"{what!r} from {container}",
    )


def _remove(engine: Engine, containers: Sequence[str]) -> None:
    if containers:
        engine.run("docker", "rm", "--force", *containers)
