"""The registry: live workers under their leases, the models they serve, and what came of their jobs."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import cast

from worker.jobs.ledger.ledger import Ledger
from worker.jobs.records import ModelCard, WorkerCard

__all__ = ["Registry"]


class Registry:
    """Workers and models, in the ledger's Redis."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.redis = ledger.redis
        self.key = ledger.key

    def renew(self, card: WorkerCard) -> None:
        """Hold the worker's lease for another `lease_ttl_s` and show its card."""
        settings = self.ledger.settings
        card_json = json.dumps(asdict(card))
        self.ledger.scripts.eval("renew", settings.prefix, card.name, settings.lease_ttl_s, card_json)

    def release(self, name: str, *, only_lapsed: bool = False) -> None:
        """Take the worker off the list, or end its lease now if it still has jobs; recovery queues them."""
        self.ledger.scripts.eval("release", self.ledger.settings.prefix, name, "1" if only_lapsed else "")

    def workers(self) -> Sequence[WorkerCard]:
        """The workers that hold a lease or have just lost one, by name."""
        cards = self.redis.hgetall(self.key("worker", "cards"))
        return [WorkerCard(**json.loads(cards[name])) for name in sorted(cards)]

    def live(self) -> list[WorkerCard]:
        """Those whose lease holds: one that was killed leaves its card behind until recovery sees it."""
        lapsed = set(self.lapsed())
        return [worker for worker in self.workers() if worker.name not in lapsed]

    def lapsed(self) -> Sequence[str]:
        """Names of the workers whose lease has ended."""
        return cast(Sequence[str], self.ledger.scripts.eval("lapsed", self.ledger.settings.prefix))

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

    def totals(self) -> dict[tuple[str, str], int]:
        """How many jobs have ended, by queue and state."""
        counts = cast("dict[str, str]", self.redis.hgetall(self.key("totals")))
        found = {}
        for name, count in sorted(counts.items()):
            queue, _, state = name.rpartition(" ")
            found[queue, state] = int(count)
        return found
