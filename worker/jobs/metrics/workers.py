"""The metrics of workers, which come from their cards."""

from worker.jobs.metrics.metric import Gauge

__all__ = ["GPU_ALLOCATED_BYTES", "GPU_PEAK_BYTES", "GPU_RESERVED_BYTES", "WARMUP_SECONDS", "WORKER_METRICS"]

GPU = ("host", "gpu")

WARMUP_SECONDS = Gauge(
    "stoker_worker_warmup_seconds",
    "Seconds that a worker took to load its model and to warm it up.",
    ("worker", "queue"),
)
GPU_ALLOCATED_BYTES = Gauge("stoker_gpu_memory_allocated_bytes", "Allocated memory of a worker's GPU.", GPU)
GPU_RESERVED_BYTES = Gauge("stoker_gpu_memory_reserved_bytes", "Reserved memory of a worker's GPU.", GPU)
GPU_PEAK_BYTES = Gauge(
    "stoker_gpu_memory_peak_bytes", "The most memory that was allocated since the worker's start.", GPU
)

WORKER_METRICS = (WARMUP_SECONDS, GPU_ALLOCATED_BYTES, GPU_RESERVED_BYTES, GPU_PEAK_BYTES)
