"""The gauges of the catalog, read from the queues and the workers' cards."""

from collections import Counter as Tally
from collections.abc import Iterator, Sequence
from statistics import fmean

from webapi.services.backend import Backend
from worker.jobs.cards import WorkerCard
from worker.jobs.kinds import kind_of, model_of
from worker.jobs.metrics import jobs, vllm, workers
from worker.jobs.metrics.metric import Gauge
from worker.jobs.records import QueueInfo
from worker.jobs.specs import ChatJob

__all__ = ["Sample", "read_gauges"]

#: The values of the labels of a series, and its value.
Sample = tuple[Sequence[str], float]


def read_gauges(backend: Backend) -> Iterator[tuple[Gauge, Sequence[Sample]]]:
    """Yield each gauge with its samples."""
    yield from _queue_gauges([*backend.queues.all_info()])
    yield from _worker_gauges(backend.registry.live())


def _queue_gauges(queues: Sequence[QueueInfo]) -> Iterator[tuple[Gauge, Sequence[Sample]]]:
    yield jobs.WAITING, [([queue.name], queue.waiting) for queue in queues]
    yield jobs.RUNNING, [([queue.name], queue.running) for queue in queues]
    yield jobs.SLOTS, [([queue.name], queue.slots) for queue in queues]
    waits = [(queue.name, queue.estimated_wait_s) for queue in queues]
    yield jobs.ESTIMATED_WAIT_SECONDS, [([name], wait) for name, wait in waits if wait is not None]
    chats = [queue for queue in queues if kind_of(queue.name) == ChatJob.kind]
    yield vllm.REQUESTS_WAITING, [(_model(queue), queue.waiting) for queue in chats]
    yield vllm.REQUESTS_RUNNING, [(_model(queue), queue.running) for queue in chats]


def _model(queue: QueueInfo) -> Sequence[str]:
    """Return the values of vLLM's labels for a queue of chats."""
    return [model_of(queue.name), vllm.ENGINE]


def _worker_gauges(cards: Sequence[WorkerCard]) -> Iterator[tuple[Gauge, Sequence[Sample]]]:
    numbers = Tally((card.kind, card.state) for card in cards)
    yield jobs.WORKERS, sorted(numbers.items())
    warm = [(card, card.warmup_s) for card in cards]
    yield workers.WARMUP_SECONDS, [([card.name, card.queue], s) for card, s in warm if s is not None]
    used: dict[str, list[float]] = {}
    for card in cards:
        if card.engine_stats and card.state != "warming":
            used.setdefault(card.model, []).append(card.engine_stats.kv_cache_usage)
    yield vllm.KV_CACHE_USAGE, [([model, vllm.ENGINE], fmean(shares)) for model, shares in used.items()]
    gpus = {(card.host, gpu.gpu): gpu for card in cards for gpu in card.gpus}
    yield workers.GPU_ALLOCATED_BYTES, [(labels, gpu.allocated) for labels, gpu in gpus.items()]
    yield workers.GPU_RESERVED_BYTES, [(labels, gpu.reserved) for labels, gpu in gpus.items()]
    yield workers.GPU_PEAK_BYTES, [(labels, gpu.peak) for labels, gpu in gpus.items()]
