"""Any order of what API, workers and recovery ask of the ledger keeps its promises; on a real Valkey."""

import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.conftest import lapse
from worker.jobs.errors import NeedsExclusiveWorker
from worker.jobs.events import TERMINAL, Canceled, Event, Failed, LoggedEvent, Reason, Succeeded, Token
from worker.jobs.ledger.appends import Append, Ended
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.ledger.queues import Queues
from worker.jobs.ledger.registry import Registry
from worker.jobs.records import WorkerCard
from worker.jobs.settings import Settings
from worker.jobs.specs import validate

T = TypeVar("T")

QUEUE = "chat.test"
CHAT = validate("chat", {"messages": [{"role": "user", "content": "Hi"}]})
WORKERS = st.sampled_from(["w1", "w2", "w3"])
PICK = st.integers(0, 5)
KEYS = st.sampled_from(["a", "b"])
SLOTS = 2
ENDINGS = (Succeeded({"text": ""}, {}), Failed("engine_failed", "no"), Canceled())


@dataclass
class Job:
    """What we expect of one job."""

    id: str
    key: str
    priority: int
    seq: int
    state: str = "queued"
    attempt: int = 0
    owner: str | None = None
    #: Who waits to be exclusive with it.
    apart: str | None = None
    lost: int = 0
    started: bool = False
    cancel: bool = False
    #: Whether its client's turn has come, and no worker has claimed it yet.
    called: bool = False
    #: Whether it has run before, and goes ahead.
    again: bool = False
    log: list[str] = field(default_factory=lambda: ["queued"])

    def end(self, kind: str) -> None:
        self.state, self.owner, self.called = kind, None, False
        self.log.append(kind)


@dataclass
class Attempt:
    """What a worker believes it runs, be it true or not."""

    job: Job
    number: int
    worker: str
    claim: str
    next: int

    @property
    def stale(self) -> bool:
        return self.job.state != "running" or self.job.attempt != self.number


def newest(things: Sequence[T], back: int) -> T:
    """The newest, or one from before it."""
    return things[-1 - back % len(things)]


class Machine(RuleBasedStateMachine):
    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.ledger = Ledger(settings.replace(prefix=f"t{uuid.uuid4().hex[:8]}", lease_ttl_s=1000))
        self.registry = Registry(self.ledger)
        self.jobs: list[Job] = []
        #: Whose turn has come, in order.
        self.calls: list[Job] = []
        #: Whose slots count.
        self.ready: set[str] = set()
        self.attempts: list[Attempt] = []

    def teardown(self) -> None:
        self.ledger.redis.close()

    @rule(key=KEYS, priority=st.sampled_from([0, 5, 5, 9]))
    def submit(self, key: str, priority: int) -> None:
        job = Job(uuid.uuid4().hex, key, priority, len(self.jobs))
        self.jobs.append(job)
        spec = CHAT.model_copy(update={"priority": priority})
        self._called(self.ledger.submit(job.id, QUEUE, spec, key).dispatched)

    @rule()
    def call(self) -> None:
        """The jobs go in the order of the places they were told."""
        order = sorted(self._lines(), key=lambda job: self.ledger.get(job.id).position or 0)
        called = Queues(self.ledger).dispatch(QUEUE)
        assert called == [job.id for job in order[: len(called)]]
        self._called(called)

    def _called(self, job_ids: Sequence[str]) -> None:
        """As many as slots are free; none whose key has an older or more urgent one in its line."""
        self._send_back()
        assert len(job_ids) == min(self._free(), len(self._lines()))
        for job_id in job_ids:
            job = self._job(job_id)
            mine = [other for other in self._lines() if other.key == job.key]
            assert job is min(mine, key=self._rank)
            job.called = True
            self.calls = [other for other in self.calls if other is not job] + [job]

    def _send_back(self) -> None:
        """Those called last, if slots have gone, but for who waits to be exclusive."""
        self.calls = [job for job in self.calls if job.called]
        for job in [job for job in self.calls[::-1] if not job.apart][: max(0, -self._room())]:
            job.called = False
            self.calls.remove(job)

    @staticmethod
    def _rank(job: Job) -> tuple[int, int]:
        """Who was taken off a worker goes first, whatever its priority."""
        return -10 if job.again else -job.priority, job.seq

    def _free(self) -> int:
        return max(0, self._room())

    def _room(self) -> int:
        owned = Counter(job.owner for job in self.jobs)
        free = sum(max(0, SLOTS - owned[worker]) for worker in self.ready)
        return free - sum(job.called for job in self.jobs)

    def _lines(self) -> list[Job]:
        return [job for job in self.jobs if job.state == "queued" and not job.called]

    def _job(self, job_id: str) -> Job:
        return next(job for job in self.jobs if job.id == job_id)

    @precondition(lambda self: self.jobs)
    @rule(pick=PICK)
    def submit_again(self, pick: int) -> None:
        job = newest(self.jobs, pick)
        self._called(self.ledger.submit(job.id, QUEUE, CHAT, job.key).dispatched)  # the reply was lost

    @precondition(lambda self: self.jobs)
    @rule(pick=PICK, worker=WORKERS, exclusive=st.booleans())
    def claim(self, pick: int, worker: str, exclusive: bool) -> None:
        job, claim = newest(self.jobs, pick), uuid.uuid4().hex
        if job.state == "queued" and job.lost >= 2 and not exclusive:
            if job.apart != worker and self._leased(job.apart):
                assert self.ledger.claim(job.id, worker, "cpu", claim=claim) is None
                return
            with pytest.raises(NeedsExclusiveWorker):
                self.ledger.claim(job.id, worker, "cpu", claim=claim)
            job.apart = worker
            return
        record = self.ledger.claim(job.id, worker, "cpu", claim=claim, exclusive=exclusive)
        assert (record is not None) == (job.state == "queued")
        if record is not None:
            job.state, job.owner, job.started, job.attempt = "running", worker, True, job.attempt + 1
            job.log.append("started")
            job.apart, job.called = None, False
            assert (record.attempt, record.events) == (job.attempt, len(job.log))
            self.attempts.append(Attempt(job, job.attempt, worker, claim, len(job.log) + 1))

    def _leased(self, worker: str | None) -> bool:
        deadline = worker and self.ledger.redis.zscore(self.ledger.key("workers"), worker)
        return bool(deadline)

    @precondition(lambda self: self.attempts)
    @rule(pick=PICK)
    def claim_again(self, pick: int) -> None:
        attempt = newest(self.attempts, pick)
        if attempt.job.state == "queued":
            return  # that would be a new claim
        record = self.ledger.claim(attempt.job.id, attempt.worker, "cpu", claim=attempt.claim)
        assert (record is None) == attempt.stale

    @precondition(lambda self: self.attempts)
    @rule(
        pick=PICK,
        count=st.integers(0, 3),
        ending=st.sampled_from([None, None, *ENDINGS]),
        twice=st.booleans(),
    )
    def append(self, pick: int, count: int, ending: Event | None, twice: bool) -> None:
        attempt = newest(self.attempts, pick)
        job, stale = attempt.job, attempt.stale
        events: list[Event] = [Token("x", i, (i,)) for i in range(count)] + ([ending] if ending else [])
        asked = Append(job.id, attempt.number, attempt.next, events, {})
        replies = [self.ledger.append([asked])[0] for _ in range(1 + twice)]
        attempt.next += len(events)
        if stale:
            assert set(replies) == {"stale"}
            return
        job.log += ["token"] * count
        if ending:
            job.end(ending.type)
            ended, *again = replies
            assert isinstance(ended, Ended)
            self._called(ended.dispatched)  # nobody twice
            assert again == ["stale"] * twice
        else:
            assert set(replies) == {"cancel" if job.cancel else "ok"}

    @precondition(lambda self: self.jobs)
    @rule(pick=PICK)
    def cancel(self, pick: int) -> None:
        job = newest(self.jobs, pick)
        if job.state == "queued":
            job.end("canceled")
        job.cancel = job.cancel or job.state == "running"
        assert self.ledger.cancel(job.id) == job.state

    @precondition(lambda self: self.jobs)
    @rule(pick=PICK, worker=WORKERS, reason=st.sampled_from(["drain", "redis_lost"]))
    def hand_back(self, pick: int, worker: str, reason: Reason) -> None:
        self._requeued(newest(self.jobs, pick), worker, reason)

    def _requeued(self, job: Job, worker: str, reason: Reason) -> None:
        mine, back = job.owner == worker, False
        if mine:
            job.lost += reason != "drain"
            if job.cancel:
                job.end("canceled")
            elif job.lost >= 3:
                job.end("failed")
            else:
                job.state, job.owner, job.again, back = "queued", None, True, True
                job.log.append("requeued")
        assert self.ledger.requeue(job.id, worker, reason) == (QUEUE if back else None)

    @rule(worker=WORKERS)
    def renew(self, worker: str) -> None:
        self.registry.renew(
            WorkerCard(worker, "chat", "h", 1, "cpu", "test", "fake", QUEUE, SLOTS, 0, state="ready")
        )
        self.ready.add(worker)

    @rule(worker=WORKERS)
    def lose_worker(self, worker: str) -> None:
        """What recovery does, with a worker that renews in between: that one keeps its jobs."""
        for job_id in self.registry.jobs_of(worker):
            self.renew(worker)
            assert self.ledger.requeue(job_id, worker, "worker_lost") is None
        lapse(self.ledger, worker)
        for job_id in self.registry.jobs_of(worker):
            self._requeued(self._job(job_id), worker, "worker_lost")
        self.registry.release(worker, only_lapsed=True)
        self.ready.discard(worker)

    @rule(worker=WORKERS)
    def release(self, worker: str) -> None:
        self.registry.release(worker)
        self.ready.discard(worker)
        owns = any(job.owner == worker for job in self.jobs)
        assert (worker in self.registry.lapsed()) == owns

    @precondition(lambda self: self.jobs)
    @rule(pick=PICK)
    def time_is_up(self, pick: int) -> None:
        job = newest(self.jobs, pick)
        alive = job.state not in TERMINAL
        self.ledger.redis.zadd(self.ledger.key("deadlines"), {job.id: 0}, xx=True)
        assert self.ledger.end_overdue() == ([job.id] if alive else [])
        if alive:
            job.end("canceled" if job.cancel else "failed")
            error = self.ledger.get(job.id).error or {}
            code = "timeout" if job.started else "expired"
            assert error.get("code") == (None if job.cancel else code)

    @rule()
    def forget_scripts(self) -> None:
        self.ledger.redis.script_flush()

    @invariant()
    def logs_are_whole(self) -> None:
        for job in self.jobs:
            events = self.ledger.events(job.id)
            assert [event.type for event in events] == job.log
            check_log(events, self.ledger.get(job.id).state)

    @invariant()
    def sets_tell_the_same_as_records(self) -> None:
        redis, key = self.ledger.redis, self.ledger.key
        waiting = [job.id for job in self.jobs if job.state == "queued"]  # in the order of their submission
        running = {job.id for job in self.jobs if job.state == "running"}
        assert redis.zrange(key("queue", QUEUE, "waiting"), 0, -1) == waiting
        assert redis.smembers(key("queue", QUEUE, "running")) == running
        assert set(redis.zrange(key("deadlines"), 0, -1)) == running | set(waiting)
        leased = set(redis.zrange(key("workers"), 0, -1))
        for worker in ("w1", "w2", "w3"):
            owned = {job.id for job in self.jobs if job.owner == worker}
            assert redis.smembers(key("worker", worker, "jobs")) == owned
            assert not owned or worker in leased, "nobody would ever miss these jobs' worker"
        for key_ in ("a", "b"):
            mine = [job for job in self.jobs if job.key == key_]
            active = {job.id for job in mine if job.called or job.state == "running"}
            assert redis.smembers(key("owner", key_, "active")) == active
            line = {job.id for job in self._lines() if job.key == key_}
            assert set(redis.zrange(key("queue", QUEUE, "line", key_), 0, -1)) == line
            assert (redis.zscore(key("queue", QUEUE, "turns"), key_) is not None) == bool(line)
        assert redis.zcard(key("queue", QUEUE, "called")) == sum(job.called for job in self.jobs)

    @invariant()
    def places_are_whole(self) -> None:
        places = []
        for job in self.jobs:
            record = self.ledger.get(job.id)
            assert (record.state, record.attempt) == (job.state, job.attempt)
            places += [record.position] if job.state == "queued" else []
        assert sorted(place or 0 for place in places) == list(range(1, len(places) + 1))


def check_log(events: Sequence[LoggedEvent], state: str) -> None:
    """Numbers without a gap, attempts that never go back, and one ending, at the end."""
    assert [event.n for event in events] == list(range(1, len(events) + 1))
    attempts = [event.data["attempt"] for event in events]
    assert attempts == sorted(attempts)
    endings = [event.type for event in events if event.terminal]
    assert endings == ([state] if state in TERMINAL else [])
    assert not endings or events[-1].terminal


def test_the_ledger_keeps_its_promises_in_any_order(redis_url: str) -> None:
    base = Settings(redis_url=redis_url)
    run_state_machine_as_test(
        lambda: Machine(base),  # type: ignore[arg-type]  # as its docs say, a factory does as well
        settings=settings(
            max_examples=50, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
