"""Sets the environment variables that vLLM and its processes read."""

import importlib.util
from pathlib import Path

from worker.jobs.settings import set_env, set_env_default

__all__ = ["prepare_environment"]


def prepare_environment(slots: int) -> None:
    """Set the variables that an engine with `slots` slots needs. Must be called before vLLM is imported."""
    set_env(
        VLLM_WORKER_MULTIPROC_METHOD="spawn",  # CUDA cannot be initialised again in a forked process
        VLLM_NO_USAGE_STATS="1",
        VLLM_V1_OUTPUT_PROC_CHUNK_SIZE=str(max(slots, 128)),  # vLLM reports a whole step at once
    )
    set_env_default(VLLM_LOGGING_CONFIG_PATH=str(Path(__file__).with_name("logging.json")))
    if importlib.util.find_spec("flashinfer") is None:  # on CUDA vLLM would use it, installed or not
        set_env_default(VLLM_USE_FLASHINFER_SAMPLER="0")
