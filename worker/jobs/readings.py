"""Readings that a worker publishes in its card: of its engine's cache, and of the memory of its GPUs."""

from dataclasses import dataclass

__all__ = ["EngineStats", "GpuMemory"]


@dataclass(frozen=True, slots=True)
class EngineStats:
    """The use of a chat engine's cache. The counts are those since the engine's start, warm-up included.

    - `kv_cache_usage`: the share of the cache that running requests hold, from 0 to 1. Blocks that are kept
      only for later prompts count as free.
    - `prefix_cache_queries`: the tokens that were looked for in the cache of prefixes: those of each prompt,
      and those of earlier attempts at the answer.
    - `prefix_cache_hits`: those of them that were found.
    - `preemptions`: how often a running request had to give its part of the cache to others.
    """

    kv_cache_usage: float = 0.0
    prefix_cache_queries: int = 0
    prefix_cache_hits: int = 0
    preemptions: int = 0


@dataclass(frozen=True, slots=True)
class GpuMemory:
    """The use of one GPU's memory in bytes. `gpu` is its UUID.

    It is what torch's allocator holds for the worker. If the engine uses the GPU in processes of its own, as
    vLLM does, it is what all processes hold, and `peak` is the highest reading at a heartbeat.
    """

    gpu: str
    allocated: int
    reserved: int
    #: The most that was allocated since the worker's start.
    peak: int
