"""The registry: workers with their leases, the models that they serve, and counts of ended jobs."""

import logging
import time
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

from worker.jobs.cards import ModelCard, WorkerCard
from worker.jobs.errors import Unsupported, WorkerNotFound
from worker.jobs.ledger.store import RedisStore
from worker.jobs.metrics.metric import Counter
from worker.jobs.metrics.vllm import ENGINE, PREEMPTIONS, PREFIX_CACHE_HITS, PREFIX_CACHE_QUERIES
from worker.jobs.stored import from_json, to_json

__all__ = ["Look", "Registry", "Renewed"]

log = logging.getLogger(__name__)

#: Seconds after which counts that have not changed are stored again. Redis keeps them for a day.
COUNT_AGAIN_S = 3600.0

Card = TypeVar("Card", WorkerCard, ModelCard)


@dataclass(frozen=True, slots=True)
class Renewed:
    """The reply to the renewal of a lease.

    `server` is the replication id of Redis. Another id means that the server was restarted, or that it is
    another server now, after a failover. An empty id tells nothing. `drain` is true if an administrator wants
    the worker to drain and end. `jobs` are those that the worker has claimed and not ended.
    """

    server: str
    drain: bool
    jobs: Collection[str]


@dataclass(frozen=True, slots=True)
class Look:
    """The state that recovery finds when a round begins.

    `leases` has for each worker the end of its lease (0 if the worker gave it up), and the seconds until
    then. `undone` says whether there is a job or a webhook that is not done yet. `first` says whether the
    caller may do what one process does for all.
    """

    leases: Mapping[str, tuple[float, float]]
    undone: bool
    first: bool


class Registry:
    """The workers and models that Redis knows.

    A card that only a newer version of Stoker can read is skipped, and logged once.
    """

    def __init__(self, store: RedisStore) -> None:
        self._store = store
        self._redis = store.client
        self._key = store.key
        self._process = uuid.uuid4().hex
        #: The names of the workers and models whose cards were skipped.
        self._skipped: set[str] = set()
        #: The counts of the engine that Redis has, and when it gets them again, by the monotonic clock.
        self._counted: list[str | int] = []
        self._count_again_at = 0.0

    def renew(self, card: WorkerCard) -> Renewed:
        """Extend the worker's lease to `lease_ttl_s` from now, and store its card.

        What its engine has counted since the last call is added to the metrics.
        """
        settings = self._store.settings
        args = settings.prefix, card.name, settings.lease_ttl_s, to_json(card)
        counts = [
            part for counter, total in _counts(card) for part in (counter.field(card.model, ENGINE), total)
        ]
        now = time.monotonic()
        is_counted = counts == self._counted and now < self._count_again_at
        server, drain, jobs = self._store.scripts.eval("renew", *args, *([] if is_counted else counts))
        if not is_counted:
            self._counted, self._count_again_at = counts, now + COUNT_AGAIN_S
        return Renewed(server, bool(drain), jobs)

    def drain(self, name: str) -> WorkerCard:
        """Ask the worker to drain and end, which it does after its next heartbeat. Return its card.

        Raises `WorkerNotFound`, and `NotReplicated` if a failover could undo it.
        """
        for card in self.live():
            if card.name == name:
                self._store.replicas.run(lambda pipe: pipe.sadd(self._key("workers", "draining"), name))
                return card
        raise WorkerNotFound(f"there is no live worker {name}")

    def release(self, name: str, lease_end: float | None = None) -> None:
        """Remove the worker. If it still has jobs, end its lease now, so that recovery requeues them.

        With `lease_end`, do nothing if the worker has renewed its lease since it had this end.
        """
        ended = "" if lease_end is None else lease_end
        self._store.scripts.eval("release", self._store.settings.prefix, name, ended)

    def look(self, interval_s: float, stay_s: float | None = None) -> Look:
        """Look at the leases of all workers, and whether there is work for recovery.

        Only one process in `interval_s` seconds is the first one. Only a few processes get the leases, which
        are those that have asked within the last `stay_s` seconds, by default a lease.
        """
        settings = self._store.settings
        args = (
            settings.prefix,
            max(1, round(1000 * interval_s)),
            self._process,
            stay_s or settings.lease_ttl_s,
        )
        now, undone, first, *leases = self._store.scripts.eval("look", *args)
        ends = zip(leases[::2], map(float, leases[1::2]), strict=True)
        return Look({name: (end, end - float(now)) for name, end in ends}, bool(undone), bool(first))

    def workers(self) -> Sequence[WorkerCard]:
        """Return the cards of all workers, by name.

        A worker that was killed keeps its card until recovery finds that its lease has lapsed.
        """
        return self._cards(WorkerCard, self._key("worker", "cards"))

    def live(self) -> list[WorkerCard]:
        """Return the cards of the workers that hold their lease, by name."""
        lapsed = set(self.lapsed())
        return [worker for worker in self.workers() if worker.name not in lapsed]

    def lapsed(self) -> Sequence[str]:
        """Return the names of the workers whose lease has ended."""
        return cast(Sequence[str], self._store.scripts.eval("lapsed", self._store.settings.prefix))

    def jobs_of(self, worker: str) -> Sequence[str]:
        """Return the jobs that the worker has claimed and not ended, oldest first."""
        jobs = list(cast("set[str]", self._redis.smembers(self._key("worker", worker, "jobs"))))
        ages = cast("Sequence[float | None]", self._redis.zmscore(self._key("jobs"), jobs)) if jobs else []
        return [job for _, job in sorted(zip((age or 0 for age in ages), jobs, strict=True))]

    def publish_model(self, card: ModelCard, prompt: str | None = None) -> None:
        """Store the card of a model that is served, and its prompt template in serialised form."""
        with self._redis.pipeline() as pipe:
            pipe.hset(self._key("models"), card.queue, to_json(card))
            if prompt is not None:
                pipe.set(self._key("model", card.name, "prompt"), prompt)
            pipe.execute()
        self._store.scripts.eval("see_model", self._store.settings.prefix, card.queue)

    def served_queues(self) -> dict[str, bool]:
        """Return the queues whose model has a worker (True), or had one until `model_grace_s` ago (False).

        A worker that was killed counts until its lease has ended.
        """
        settings = self._store.settings
        seen_s = settings.lease_ttl_s + settings.model_grace_s
        recent, live = self._store.scripts.eval("served", settings.prefix, seen_s)
        return dict.fromkeys(recent, False) | dict.fromkeys(live, True)

    def served_models(self) -> Sequence[ModelCard]:
        """Return the cards of the models of `served_queues`, by queue."""
        queues = self.served_queues()
        return [card for card in self.models() if card.queue in queues]

    def models(self) -> Sequence[ModelCard]:
        """Return the cards of all models that were ever served, by queue, and after each one its adapters."""
        return [each for card in self._cards(ModelCard, self._key("models")) for each in card.with_adapters]

    def _cards(self, kind: type[Card], key: str) -> Sequence[Card]:
        """Return the cards in the hash, sorted by its fields, without those that this version cannot read."""
        found, cards = [], cast("dict[str, str]", self._redis.hgetall(key))
        for name, text in sorted(cards.items()):
            try:
                found.append(from_json(kind, text))
            except Unsupported as error:
                if name not in self._skipped:
                    log.warning("the card of %s is skipped: %s", name, str(error))
                    self._skipped.add(name)
        return found

    def prompt(self, model: str) -> str | None:
        """Return the model's prompt template in serialised form, or None if it has none."""
        return cast(str | None, self._redis.get(self._key("model", model, "prompt")))

    def totals(self) -> dict[tuple[str, str], int]:
        """Return the number of ended jobs by (queue, state)."""
        counts = cast("dict[str, str]", self._redis.hgetall(self._key("totals")))
        found = {}
        for name, count in sorted(counts.items()):
            queue, _, state = name.rpartition(" ")
            found[queue, state] = int(count)
        return found


def _counts(card: WorkerCard) -> Iterator[tuple[Counter, int]]:
    """Yield the counts of the worker's engine since its start."""
    if stats := card.engine_stats:
        yield PREFIX_CACHE_QUERIES, stats.prefix_cache_queries
        yield PREFIX_CACHE_HITS, stats.prefix_cache_hits
        yield PREEMPTIONS, stats.preemptions
