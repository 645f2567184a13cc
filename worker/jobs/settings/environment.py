"""The environment of this process and of its children."""

import os

from worker.jobs.loopback import without_proxy
from worker.jobs.settings.settings import Settings

__all__ = ["child_env", "gpu_env", "set_env", "set_env_default", "visible_devices", "vllm_log_level"]


def child_env(settings: Settings) -> dict[str, str]:
    """Return the environment for a child process: that of this process, overridden by `settings`.

    The child asks no proxy for this machine's own addresses.
    """
    return dict(os.environ) | without_proxy(os.environ) | settings.to_env()


def set_env(**variables: str) -> None:
    """Set variables that libraries read when they are imported, such as `CUDA_VISIBLE_DEVICES`."""
    os.environ.update(variables)


def set_env_default(**variables: str) -> None:
    """Set the variables, except for those that the user has set."""
    set_env(**{name: value for name, value in variables.items() if name not in os.environ})


def visible_devices() -> str | None:
    """Return the user's `CUDA_VISIBLE_DEVICES`, the set of GPUs to choose from; None if it is unset."""
    return os.environ.get("CUDA_VISIBLE_DEVICES")


def gpu_env() -> dict[str, str]:
    """Return the variables with which a child process finds CUDA and the GPU of this process."""
    names = ("CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH")
    return {name: os.environ[name] for name in names if name in os.environ}


def vllm_log_level() -> str:
    """Return the lowest level at which vLLM logs."""
    return os.environ.get("VLLM_LOGGING_LEVEL", "WARNING").upper()
