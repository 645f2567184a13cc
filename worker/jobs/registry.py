"""The registry: live workers under their leases, the models they serve, and how full the queues are."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import cast

from worker.jobs.ledger import Ledger
from worker.jobs.records import ModelCard, QueueInfo, WorkerCard

__all__ = ["Registry"]


class Registry:
    """Workers, models and queues, in the ledger's Redis."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.redis = ledger.redis
        self.key = ledger.key

    def renew(self, card: WorkerCard) -> None:
        """Hold the worker's lease for another `lease_ttl_s` and show its card."""
        settings = self.ledger.settings
        card_json = json.dumps(asdict(card))
        self.ledger.scripts.run("renew", settings.prefix, card.name, settings.lease_ttl_s, card_json)

    def release(self, name: str, *, only_lapsed: bool = False) -> None:
        """Take the worker off the list, or end its lease now if it still has jobs; recovery queues them."""
        self.ledger.scripts.run("release", self.ledger.settings.prefix, name, "1" if only_lapsed else "")

    def workers(self) -> Sequence[WorkerCard]:
        """The workers that hold a lease or have just lost one, by name."""
        cards = self.redis.hgetall(self.key("worker", "cards"))
        return [WorkerCard(**json.loads(cards[name])) for name in sorted(cards)]

    def lapsed(self) -> Sequence[str]:
        """Names of the workers whose lease has ended."""
        return cast(Sequence[str], self.ledger.scripts.run("lapsed", self.ledger.settings.prefix))

    def jobs_of(self, worker: str) -> Sequence[str]:
        """Jobs that the worker has claimed and not ended, oldest first."""
        jobs = list(cast("set[str]", self.redis.smembers(self.key("worker", worker, "jobs"))))
        ages = cast("Sequence[float | None]", self.redis.zmscore(self.key("jobs"), jobs)) if jobs else []
        return [job for _, job in sorted(zip((age or 0 for age in ages), jobs, strict=True))]

    def publish_model(self, card: ModelCard, prompt: str | None = None) -> None:
        """Say that the model is served; `prompt` is its prompt template, serialised."""
        with self.redis.pipeline() as pipe:
            pipe.hset(self.key("models"), card.queue, json.dumps(asdict(card)))
            if prompt is not None:
                pipe.set(self.key("model", card.name, "prompt"), prompt)
            pipe.execute()

    def models(self) -> Sequence[ModelCard]:
        """The models that workers have served, by queue."""
        cards = self.redis.hgetall(self.key("models"))
        return [ModelCard(**json.loads(cards[name])) for name in sorted(cards)]

    def prompt(self, model: str) -> str | None:
        """The model's prompt template, serialised."""
        return cast(str | None, self.redis.get(self.key("model", model, "prompt")))

    def called_before(self, queue: str, time_s: float) -> Sequence[str]:
        """Jobs that were called before then (Redis' clock) and that no worker has claimed yet."""
        called = self.key("queue", queue, "called")
        return cast(Sequence[str], self.redis.zrange(called, "-inf", time_s, byscore=True))

    def drop_called(self, queue: str, job_id: str) -> None:
        """Take an id off the queue that is no job's."""
        for part in ("called", "waiting"):
            self.redis.zrem(self.key("queue", queue, part), job_id)

    def queue_names(self) -> Sequence[str]:
        """The queues that have had a job."""
        return sorted(cast("set[str]", self.redis.smembers(self.key("queues"))))

    def queues(self) -> Iterator[QueueInfo]:
        """The queues that have had a job or a worker."""
        names = {*self.queue_names(), *(worker.queue for worker in self.workers())}
        for name in sorted(names):
            yield self.queue(name)

    def totals(self) -> dict[tuple[str, str], int]:
        """How many jobs have ended, by queue and state."""
        counts = cast("dict[str, str]", self.redis.hgetall(self.key("totals")))
        found = {}
        for name, count in sorted(counts.items()):
            queue, _, state = name.rpartition(" ")
            found[queue, state] = int(count)
        return found

    def queue(self, name: str) -> QueueInfo:
        """The queue as it is now."""
        with self.redis.pipeline(transaction=False) as pipe:
            pipe.zcard(self.key("queue", name, "waiting"))
            pipe.scard(self.key("queue", name, "running"))
            waiting, running = pipe.execute()
        settings = self.ledger.settings
        slots, wait = self.ledger.scripts.run("wait", settings.prefix, name)
        wait_s = float(wait) if wait else None
        return QueueInfo(name, waiting, running, slots, settings.max_waiting, wait_s)
