"""What vLLM finds in its environment, and what its processes inherit."""

import importlib.util

from worker.jobs.settings import set_env, set_env_default

__all__ = ["prepare"]


def prepare(slots: int) -> None:
    """Set what an engine of so many slots needs; called before vLLM is imported."""
    set_env(
        VLLM_WORKER_MULTIPROC_METHOD="spawn",  # CUDA cannot be re-initialised in a forked subprocess
        VLLM_NO_USAGE_STATS="1",
        VLLM_V1_OUTPUT_PROC_CHUNK_SIZE=str(max(slots, 128)),  # a step is never cut in pieces
    )
    if importlib.util.find_spec("flashinfer") is None:  # vLLM takes it for granted on CUDA, to sample with
        set_env_default(VLLM_USE_FLASHINFER_SAMPLER="0")
