"""The settings, and the only code that reads or writes environment variables."""

from worker.jobs.settings.environment import (
    child_env,
    gpu_env,
    set_env,
    set_env_default,
    visible_devices,
    vllm_log_level,
)
from worker.jobs.settings.settings import Setting, Settings
from worker.jobs.settings.sources import PREFIX

__all__ = [
    "PREFIX",
    "Setting",
    "Settings",
    "child_env",
    "gpu_env",
    "set_env",
    "set_env_default",
    "visible_devices",
    "vllm_log_level",
]
