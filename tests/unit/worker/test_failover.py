"""A failover of Redis that loses the last writes: the worker offers again what the new primary lacks."""

from collections.abc import Iterator

import pytest

from tests.support.ledger import QUEUE
from tests.support.stack import eventually
from tests.support.valkey import Pair, valkey_pair
from worker.jobs.cards import WorkerCard
from worker.jobs.dispatch.dispatcher import Dispatcher
from worker.jobs.events import Event, Succeeded, Token
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.ledger.registry import Registry
from worker.jobs.ledger.store import RedisStore
from worker.jobs.settings import Settings
from worker.jobs.specs import ChatJob, validate
from worker.process.failover import Failover
from worker.runs.outbox import Outbox
from worker.runs.run import Run

WAIT_S = 20.0
CHAT = validate(ChatJob, {"messages": [{"role": "user", "content": "Hi"}]})
DONE = Succeeded({"text": "abc"}, {"total_tokens": 3})
CARD = WorkerCard("w1", "chat", "host", 1, "cpu", "test", "fake", QUEUE, 4, 0, state="ready")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with valkey_pair(tmp_path_factory.mktemp("pair")) as pair:
        yield pair


class Worker:
    """The parts of a worker that write to Redis, and the Redis that it writes to.

    A failover leads its connections to another server, as that of a managed endpoint does.
    """

    def __init__(self, pair: Pair, settings: Settings) -> None:
        self.pair = pair
        self.store = RedisStore(settings.replace(redis_url=f"{pair.primary.connection_url}/0"))
        self.ledger = Ledger(self.store)
        self.outbox = Outbox(Dispatcher(self.store))
        self.outbox.start()
        self.new_servers = 0
        self.failover = Failover(self.store.replicas, self.outbox, self._count)
        self.beat()

    def _count(self) -> None:
        self.new_servers += 1

    def beat(self) -> None:
        self.failover.beat(Registry(self.store).renew(CARD).server)

    def claim(self) -> Run:
        record = self.ledger.claim("a", "w1", "cpu")
        assert record
        return Run(record, self.outbox)

    def lose_what_follows(self) -> None:
        """Promote the replica as it is now. The primary goes on, and its later writes are lost."""
        self.pair.connect()
        self.pair.disconnect()

    def fail_over(self) -> None:
        """Lead the worker's connections to the promoted replica."""
        pool = self.store.client.connection_pool
        pool.connection_kwargs["port"] = self.pair.replica.port
        pool.disconnect()
        pool.reset()

    def log(self) -> list[str]:
        """Return the events of the job as JSON, and check their numbers."""
        events = self.ledger.events("a")
        assert [event.n for event in events] == list(range(1, len(events) + 1))
        return [event.text for event in events]

    def types(self) -> list[str]:
        return [event.type for event in self.ledger.events("a")]


@pytest.fixture
def worker(pair: Pair, settings: Settings) -> Iterator[Worker]:
    pair.connect()
    worker = Worker(pair, settings)
    worker.ledger.submit("a", QUEUE, CHAT)
    yield worker
    worker.outbox.stop(WAIT_S)
    worker.store.close()


def logged(run: Run, *events: Event) -> None:
    """Emit the events, and wait until Redis has them."""
    assert run.emit(*events).result(WAIT_S) in ("ok", "ended")


def token(text: str, index: int) -> Token:
    return Token(text, index, 1)


def test_failover_that_loses_tokens_is_made_good_at_next_append(worker: Worker) -> None:
    run = worker.claim()
    logged(run, token("a", 0))
    worker.lose_what_follows()
    logged(run, token("b", 1))
    logged(run, token("c", 2))
    before = worker.log()
    worker.fail_over()
    assert worker.types() == ["queued", "started", "token"]
    logged(run, DONE)
    assert worker.log()[: len(before)] == before
    assert worker.types() == ["queued", "started", "token", "token", "token", "succeeded"]


def test_failover_that_loses_claim_lets_same_worker_claim_again(worker: Worker) -> None:
    worker.lose_what_follows()
    run = worker.claim()
    logged(run, token("a", 0))
    before, record = worker.log(), worker.ledger.get("a")
    worker.fail_over()
    assert worker.ledger.get("a").state == "queued"
    logged(run, token("b", 1))
    again = worker.ledger.get("a")
    assert worker.log()[: len(before)] == before
    assert (again.attempt, again.claim, again.worker, again.device) == (1, record.claim, "w1", "cpu")
    assert (again.started_at, again.claimed_at) == (record.started_at, record.claimed_at)
    assert Registry(worker.store).jobs_of("w1") == ["a"]
    assert worker.store.client.zcard(worker.store.key("queue", QUEUE, "waiting")) == 0
    logged(run, DONE)
    assert worker.ledger.get("a").state == "succeeded"


def test_failover_that_loses_claim_of_silent_run_is_made_good_at_heartbeat(worker: Worker) -> None:
    worker.lose_what_follows()
    worker.claim()
    worker.fail_over()
    worker.beat()
    eventually(lambda: worker.ledger.get("a").state == "running", "the claim", WAIT_S)
    assert worker.new_servers == 1
    worker.beat()
    assert worker.new_servers == 1


def test_failover_that_loses_end_is_made_good_at_heartbeat(worker: Worker) -> None:
    run = worker.claim()
    logged(run, token("a", 0))
    worker.lose_what_follows()
    logged(run, token("b", 1))
    logged(run, DONE)
    assert run.over.wait(WAIT_S)
    before = worker.log()
    worker.fail_over()
    assert worker.ledger.get("a").state == "running"
    assert worker.outbox.unconfirmed.ended_jobs() == {"a"}
    worker.beat()
    eventually(lambda: worker.ledger.get("a").terminal, "the end", WAIT_S)
    assert worker.log() == before
    assert run.outcome == "succeeded"


def test_failover_that_loses_submit_leaves_no_job(worker: Worker) -> None:
    worker.ledger.cancel("a")
    worker.ledger.forget("a")
    worker.lose_what_follows()
    worker.ledger.submit("a", QUEUE, CHAT)
    run = worker.claim()
    logged(run, token("a", 0))
    worker.fail_over()
    assert run.emit(token("b", 1)).result(WAIT_S) == "stale"
    assert run.outcome == "abandoned"
    assert worker.log() == []


def test_failover_lets_worker_go_on_that_has_claimed_meanwhile(worker: Worker) -> None:
    """Both attempts have the number 1, so only their claims tell them apart."""
    worker.lose_what_follows()
    run = worker.claim()
    logged(run, token("a", 0))
    worker.fail_over()
    other = worker.ledger.claim("a", "w2", "cpu")
    assert other
    assert other.attempt == run.record.attempt == 1
    assert run.emit(token("b", 1)).result(WAIT_S) == "stale"
    assert run.outcome == "abandoned"
    assert worker.types() == ["queued", "started"]
    worker.ledger.requeue("a", "w2", "drain", run.record.claim)
    assert worker.ledger.get("a").worker == "w2"


def test_failover_that_loses_nothing_changes_nothing(worker: Worker) -> None:
    run = worker.claim()
    logged(run, token("a", 0))
    worker.lose_what_follows()
    before = worker.log()
    worker.fail_over()
    worker.beat()
    logged(run, DONE)
    assert worker.log()[: len(before)] == before
    assert worker.types() == ["queued", "started", "token", "succeeded"]


def test_failover_that_loses_more_than_is_kept_ends_attempt(worker: Worker) -> None:
    run = worker.claim()
    worker.lose_what_follows()
    logged(run, token("a", 0))
    worker.outbox.unconfirmed.forget(run.record.claim or "")
    worker.fail_over()
    assert run.emit(token("b", 1)).result(WAIT_S) == "stale"
    assert run.outcome == "abandoned"
    assert worker.types() == ["queued", "started"]


def test_heartbeat_confirms_what_replicas_have(worker: Worker) -> None:
    settings = worker.store.settings.replace(redis_replicas=1, lease_ttl_s=1)
    failover = Failover(RedisStore(settings, worker.store.client).replicas, worker.outbox, lambda: None)
    run = worker.claim()
    logged(run, token("a", 0))
    claim, unconfirmed = run.record.claim or "", worker.outbox.unconfirmed
    failover.beat("server")
    assert len(unconfirmed.appends_of(claim)) == 2  # a failover may have come just before the confirmation
    failover.beat("server")
    assert unconfirmed.appends_of(claim) == []
    logged(run, token("b", 1))
    worker.pair.disconnect()
    failover.beat("server")
    failover.beat("server")
    assert len(unconfirmed.appends_of(claim)) == 1
