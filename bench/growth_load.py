"""The data of `bench.growth`: a ledger with very many jobs, keys and workers, and operations on it."""

import itertools
import time
import uuid
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import redis

from worker.jobs.cards import WorkerCard
from worker.jobs.dispatch.dispatcher import Dispatcher
from worker.jobs.events import Succeeded, Token
from worker.jobs.ledger.appends import Append, json_fields
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.ledger.queues import Queues
from worker.jobs.ledger.registry import Registry
from worker.jobs.ledger.store import RedisStore
from worker.jobs.settings import Settings
from worker.jobs.specs import ChatJob, validate

__all__ = ["QUEUE", "Load", "settings_of"]

QUEUE = "chat.growth"
#: A prompt of about forty words, as chats often have.
CHAT = validate(ChatJob, {"messages": [{"role": "user", "content": "Why is the sky blue? " * 8}]})
#: Submits in one round trip while the server is filled.
BATCH = 50
LOST = "lost"


def settings_of(url: str) -> Settings:
    """Return settings without caps that the load would reach."""
    caps = {
        "max_waiting": 10**8,
        "max_waiting_per_key": 10**8,
        "max_kept_jobs": 10**8,
        "max_kept_bytes": 2**60,
    }
    return Settings(redis_url=url, lease_ttl_s=3600, **caps)  # type: ignore[arg-type]


def card_of(name: str, slots: int) -> WorkerCard:
    """Return the card of a ready worker of the queue."""
    return WorkerCard(name, "chat", "host", 1, "cpu", "growth", "fake", QUEUE, slots, 0, state="ready")


class Recorder:
    """A client that keeps the arguments of the last call of a script, and answers `ok`."""

    def __init__(self, client: "redis.Redis") -> None:
        self._client = client
        self.args: tuple[Any, ...] = ()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def evalsha(self, *args: Any) -> Sequence[str]:
        self.args = args
        return ["ok", ""]


@dataclass(frozen=True, slots=True)
class Running:
    """A claimed job of the load."""

    job_id: str
    claim: str
    worker: str
    events: int


class Load:
    """A ledger with many waiting jobs, whose workers have no free slot, and operations on it."""

    def __init__(self, settings: Settings, jobs: int, keys: int, capped: bool) -> None:
        self._store = RedisStore(settings)
        self._dispatcher = Dispatcher(self._store)
        self._ledger = self._dispatcher.ledger
        self._queues, self._registry = Queues(self._store), Registry(self._store)
        self.jobs = jobs
        self.keys = keys
        self._owners = itertools.cycle([f"{number * 2654435761 % 2**32:08x}" for number in range(keys)])
        self._ids = [uuid.uuid4().hex for _ in range(jobs)]
        self._picks = itertools.cycle(range(jobs - 1, jobs // 2, -max(1, jobs // 1000)))
        self._running: deque[Running] = deque()
        self._to_claim: deque[str] = deque()
        self._capped = capped

    @property
    def running(self) -> int:
        """The number of jobs that run."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """The number of jobs that wait, dispatched ones included."""
        return int(self._store.client.zcard(self._store.key("queue", QUEUE, "waiting")))

    @property
    def dispatched(self) -> int:
        """The number of jobs that are dispatched and not claimed."""
        self._to_claim = deque(self._called())
        return len(self._to_claim)

    def fill(self) -> float:
        """Submit the jobs, and return the seconds that it took."""
        if self._capped:
            for _ in range(self.keys):
                self._store.client.hset(self._store.key("key", next(self._owners)), "max_running", 0)
        start = time.perf_counter()
        for first in range(0, len(self._ids), BATCH):
            with self._store.client.pipeline(transaction=False) as pipe:
                for args in self._submits(self._ids[first : first + BATCH]):
                    pipe.evalsha(*args)
                pipe.execute()
        return time.perf_counter() - start

    def _submits(self, job_ids: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        """Yield the arguments of the calls that submit these jobs, made from those of one submit."""
        recorder = Recorder(self._store.client)
        ledger = Ledger(RedisStore(self._store.settings, recorder))  # type: ignore[arg-type]
        ledger.submit("JOB", QUEUE, CHAT, "OWNER")
        for job_id in job_ids:
            now = {"JOB": job_id, "OWNER": next(self._owners)}
            yield tuple(now.get(arg, arg) if isinstance(arg, str) else arg for arg in recorder.args)

    def start_workers(self, count: int) -> None:
        """Register so many workers of one slot, and give each a job."""
        for number in range(count):
            self._registry.renew(card_of(f"worker-{number}", 1))
        self._claim_all([f"worker-{number}" for number in range(count)])

    def _claim_all(self, workers: Sequence[str]) -> None:
        left = deque(workers)
        while left and (jobs := self._dispatch()):
            for job_id, worker in zip(jobs, [*left], strict=False):
                self._claim(job_id, worker)
                left.popleft()

    def _dispatch(self) -> Sequence[str]:
        self._queues.dispatch_jobs(QUEUE)
        return self._called()

    def _called(self) -> Sequence[str]:
        key = self._store.key("queue", QUEUE, "called")
        return cast("list[str]", self._store.client.zrange(key, 0, 999))

    def _claim(self, job_id: str, worker: str) -> None:
        record = self._ledger.claim(job_id, worker, "cpu", claim=uuid.uuid4().hex)
        if record and record.claim:
            self._running.append(Running(job_id, record.claim, worker, record.events))

    def submit(self) -> None:
        """Submit one more job."""
        self._ledger.submit(uuid.uuid4().hex, QUEUE, CHAT, next(self._owners))

    def read_waiting(self) -> None:
        """Read a job of the later half of the queue, with its position."""
        self._ledger.get(self._ids[next(self._picks) % len(self._ids)])

    def read_page(self) -> None:
        """Read the newest twenty jobs of a key."""
        self._ledger.page(owner=next(self._owners))

    def read_queue(self) -> None:
        """Read the numbers of the queue."""
        self._queues.info(QUEUE)

    def renew(self) -> None:
        """Send a worker's heartbeat."""
        self._registry.renew(card_of("worker-0", 1))

    def look(self) -> None:
        """Look for work of recovery, and at the leases."""
        self._registry.look(1.0)

    def cancel(self) -> None:
        """Cancel a waiting job."""
        self._ledger.cancel(self._ids.pop())

    def end(self) -> None:
        """End a running job, whose slot goes to the next one."""
        it = self._running.popleft()
        events = [Token("Because of Rayleigh scattering.", 0, 6), Succeeded({"text": "x"}, {})]
        fields = json_fields(result={"text": "x"}, usage={"tokens": 6})
        self._ledger.append([Append(it.job_id, it.claim, 1, it.events + 1, time.time(), events, fields)])

    def claim(self) -> None:
        """Claim a dispatched job."""
        self._claim(self._to_claim.popleft(), "worker-0")

    def broadcast(self) -> None:
        """Log the positions that have changed."""
        self._queues.broadcast_positions(QUEUE)

    def read_served(self) -> None:
        """Read which models have a worker."""
        self._registry.served_queues()

    def lose_worker(self, jobs: int) -> None:
        """Let a worker claim so many jobs, and give up its lease."""
        self._registry.renew(card_of(LOST, jobs + 1000))
        self._claim_all([LOST] * jobs)
        self._store.client.zadd(self._store.key("workers"), {LOST: 0})

    def recover(self) -> None:
        """Requeue the jobs of the lost worker, as recovery does."""
        self._registry.release(LOST, 0)
        self._dispatcher.requeue_lost(self._registry.jobs_of(LOST), LOST, 0)
        self._registry.release(LOST, 0)

    def pass_deadlines(self, jobs: int) -> None:
        """Let the deadlines of so many waiting jobs pass."""
        waiting_key = self._store.key("queue", QUEUE, "waiting")
        waiting = cast("list[str]", self._store.client.zrange(waiting_key, 0, jobs - 1))
        self._store.client.zadd(self._store.key("deadlines"), dict.fromkeys(waiting, 0), xx=True)

    def end_overdue(self) -> None:
        """End the jobs whose deadline has passed."""
        while self._ledger.end_overdue():
            pass

    def start_api(self) -> None:
        """Read what an API process reads with its first requests: queues, workers, models, and a page."""
        store = RedisStore(self._store.settings)
        registry = Registry(store)
        registry.models(), registry.served_models(), registry.live(), [*Queues(store).all_info()]
        Ledger(store).page(owner=next(self._owners))
        store.close()

    def bytes_of_ended(self) -> float:
        """Return the average memory of the records and logs of ended jobs that have run."""
        client, sizes = self._store.client, []
        for job_id in cast("list[str]", client.zrange(self._store.key("finished"), 0, 999)):
            channel = self._store.channel(job_id)
            if client.hget(f"{channel}:record", "state") == "succeeded":
                sizes.append(
                    sum(client.memory_usage(f"{channel}:{part}") or 0 for part in ("record", "events"))
                )
        return sum(sizes) / max(1, len(sizes))

    def close(self) -> None:
        """Close the connections."""
        self._store.close()
