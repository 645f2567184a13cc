"""A state machine over the ledger in a real Valkey: any order of calls keeps its invariants."""

import itertools
import math
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar, cast

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

from tests.support.ledger import (
    QUEUE,
    account_flaws,
    card,
    check_vocabulary,
    index_flaws,
    lapse,
    pass_deadline,
)
from worker.jobs.errors import NeedsExclusiveWorker
from worker.jobs.events import TERMINAL, Canceled, Event, Failed, LoggedEvent, Reason, Succeeded, Token
from worker.jobs.ledger.appends import Append, json_fields
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.ledger.queues import Queues
from worker.jobs.ledger.registry import Registry
from worker.jobs.ledger.store import RedisStore
from worker.jobs.settings import Settings
from worker.jobs.specs import ChatJob, validate

T = TypeVar("T")

CHAT = validate(ChatJob, {"messages": [{"role": "user", "content": "Hi"}]})
WORKERS = st.sampled_from(["w1", "w2", "w3"])
PICK = st.integers(0, 5)
KEYS = st.sampled_from(["a", "b"])
SLOTS = 2
#: The bytes of a clip and of a result, and the number of ended jobs that a key keeps.
CLIP_BYTES, RESULT_BYTES, KEPT_JOBS = 5, 3, 4
ENDS = itertools.count()
TERMINAL_EVENTS = (Succeeded({"bytes": RESULT_BYTES}, {}), Failed("engine_failed", "no"), Canceled())


@dataclass
class Job:
    """The expected state of one job."""

    id: str
    key: str
    priority: int
    seq: int
    state: str = "queued"
    attempt: int = 0
    owner: str | None = None
    #: The worker that waits to run the job in isolation.
    isolated_by: str | None = None
    lost: int = 0
    started: bool = False
    cancel: bool = False
    #: Whether the job was dispatched and no worker has claimed it yet.
    dispatched: bool = False
    length: int = 1
    #: Whether the job was requeued, so that it goes before all others of its owner.
    again: bool = False
    #: The bytes of the job's clip while it is there, and of the job's files in the account of its key.
    inputs: int = 0
    file_bytes: int = 0
    #: Whether files that it does not need are still there.
    has_work: bool = True
    #: The rank of the job's end among those of all jobs.
    ended: int | None = None
    evicted: bool = False
    log: list[str] = field(default_factory=lambda: ["queued"])

    def end(self, kind: str) -> None:
        self.state, self.owner, self.dispatched = kind, None, False
        self.log.append(kind)
        self.ended = next(ENDS)
        if kind == "succeeded" and self.inputs:
            self.file_bytes += RESULT_BYTES


@dataclass
class Attempt:
    """One attempt as its worker sees it. It may be stale."""

    job: Job
    number: int
    worker: str
    claim: str
    next: int

    @property
    def stale(self) -> bool:
        return self.job.state != "running" or self.job.attempt != self.number


def newest(things: Sequence[T], back: int) -> T:
    """Return the newest thing, or one from before it."""
    return things[-1 - back % len(things)]


class Machine(RuleBasedStateMachine):
    def __init__(self, settings: Settings) -> None:
        super().__init__()
        prefix = f"t{uuid.uuid4().hex[:8]}"
        self.ledger = Ledger(
            RedisStore(settings.replace(prefix=prefix, lease_ttl_s=1000, max_kept_jobs=KEPT_JOBS))
        )
        self.registry = Registry(self.ledger.store)
        self.jobs: list[Job] = []
        self.submits = 0
        #: Dispatched jobs, in the order of their dispatch.
        self.in_dispatch_order: list[Job] = []
        #: Workers whose slots count.
        self.ready: set[str] = set()
        self.attempts: list[Attempt] = []
        self.paused = False

    def teardown(self) -> None:
        self.ledger.store.close()

    @rule(
        key=KEYS,
        priority=st.sampled_from([0, 5, 5, 9]),
        inputs=st.sampled_from([0, CLIP_BYTES]),
        length=st.sampled_from([1, 1, 3]),
    )
    def submit(self, key: str, priority: int, inputs: int, length: int) -> None:
        self.submits += 1
        job = Job(
            uuid.uuid4().hex, key, priority, self.submits, inputs=inputs, file_bytes=inputs, length=length
        )
        spec = CHAT.model_copy(update={"priority": priority, "n": length})
        dispatched = self.ledger.submit(job.id, QUEUE, spec, key, file_bytes=inputs).dispatched
        self._evicted(key)
        self.jobs.append(job)
        self._dispatched(dispatched)

    def _evicted(self, key: str) -> None:
        """Note that the oldest ended jobs of this key were evicted. A job with files keeps its record."""
        kept = [job for job in self.jobs if job.key == key and job.ended is not None and not job.evicted]
        kept.sort(key=lambda job: job.ended or 0)
        for job in kept[: max(0, len(kept) - KEPT_JOBS)]:
            job.evicted = True
            if not job.inputs and not job.file_bytes:
                self.jobs.remove(job)
            job.file_bytes = 0

    @rule()
    def dispatch(self) -> None:
        """Check that jobs are dispatched in the order of their positions, which take all for length 1."""
        order = sorted(self._flows(), key=lambda job: self.ledger.get(job.id).position or 0)
        exact = len(order) if all(job.length == 1 for job in order) else 1
        dispatched = Queues(self.ledger.store).dispatch_jobs(QUEUE)
        assert dispatched[:exact] == [job.id for job in order[: len(dispatched)]][:exact]
        self._dispatched(dispatched)

    def _dispatched(self, job_ids: Sequence[str]) -> None:
        """Check that jobs are dispatched while slots are free, and of each owner the first ones."""
        self._undispatch()
        for job_id in job_ids:
            assert self._room() > 0
            job = self._job(job_id)
            mine = [other for other in self._flows() if other.key == job.key]
            assert job is min(mine, key=self._rank)
            job.dispatched = True
            self.in_dispatch_order = [other for other in self.in_dispatch_order if other is not job] + [job]
        assert self._room() <= 0 or not self._flows()

    def _dispatched_meanwhile(self) -> None:
        """Check the jobs that a script has dispatched which does not return them."""
        called = self.ledger.store.client.zrange(self.ledger.store.key("queue", QUEUE, "called"), 0, -1)
        self._dispatched([job_id for job_id in cast("list[str]", called) if not self._job(job_id).dispatched])

    def _undispatch(self) -> None:
        """If slots have disappeared, undispatch the newest jobs except those that wait for isolation."""
        self.in_dispatch_order = [job for job in self.in_dispatch_order if job.dispatched]
        for job in [job for job in self.in_dispatch_order[::-1] if not job.isolated_by]:
            if self._room() >= 0 or self._room() + job.length > 0:
                break
            job.dispatched = False
            self.in_dispatch_order.remove(job)

    @staticmethod
    def _rank(job: Job) -> tuple[int, int]:
        """Return the sort key within an owner's flow: requeued jobs first, whatever their priority."""
        return -10 if job.again else -job.priority, job.seq

    def _room(self) -> float:
        if self.paused:
            return -math.inf
        free = sum(
            max(0, SLOTS - sum(job.length for job in self.jobs if job.owner == worker))
            for worker in self.ready
        )
        return free - sum(job.length for job in self.jobs if job.dispatched)

    def _flows(self) -> list[Job]:
        return [job for job in self.jobs if job.state == "queued" and not job.dispatched]

    def _job(self, job_id: str) -> Job:
        return next(job for job in self.jobs if job.id == job_id)

    @precondition(lambda self: self.jobs)
    @rule(pick=PICK)
    def submit_again(self, pick: int) -> None:
        job = newest(self.jobs, pick)
        self._dispatched(self.ledger.submit(job.id, QUEUE, CHAT, job.key).dispatched)  # the reply was lost

    @precondition(lambda self: self.jobs)
    @rule(pick=PICK, worker=WORKERS, exclusive=st.booleans())
    def claim(self, pick: int, worker: str, exclusive: bool) -> None:
        job, claim = newest(self.jobs, pick), uuid.uuid4().hex
        if self.paused and job.state == "queued":
            assert self.ledger.claim(job.id, worker, "cpu", claim=claim, exclusive=exclusive) is None
            job.isolated_by = None
            self._dispatched_meanwhile()
            return
        if job.state == "queued" and job.lost >= 2 and not exclusive:
            if job.isolated_by != worker and self._leased(job.isolated_by):
                assert self.ledger.claim(job.id, worker, "cpu", claim=claim) is None
                self._dispatched_meanwhile()
                return
            with pytest.raises(NeedsExclusiveWorker):
                self.ledger.claim(job.id, worker, "cpu", claim=claim)
            job.isolated_by = worker
            return
        record = self.ledger.claim(job.id, worker, "cpu", claim=claim, exclusive=exclusive)
        assert (record is not None) == (job.state == "queued")
        if record is None:
            self._dispatched_meanwhile()
        else:
            job.state, job.owner, job.started, job.attempt = "running", worker, True, job.attempt + 1
            job.log.append("started")
            job.isolated_by, job.dispatched = None, False
            assert (record.attempt, record.events) == (job.attempt, len(job.log))
            self.attempts.append(Attempt(job, job.attempt, worker, claim, len(job.log) + 1))

    def _leased(self, worker: str | None) -> bool:
        deadline = worker and self.ledger.store.client.zscore(self.ledger.store.key("workers"), worker)
        return bool(deadline)

    @precondition(lambda self: self.attempts)
    @rule(pick=PICK)
    def claim_again(self, pick: int) -> None:
        attempt = newest(self.attempts, pick)
        if attempt.job.state == "queued":
            return  # that would be a new claim
        record = self.ledger.claim(attempt.job.id, attempt.worker, "cpu", claim=attempt.claim)
        assert (record is None) == attempt.stale
        if record is None and attempt.job in self.jobs:
            self._dispatched_meanwhile()

    @precondition(lambda self: self.attempts)
    @rule(
        pick=PICK,
        count=st.integers(0, 3),
        last=st.sampled_from([None, None, *TERMINAL_EVENTS]),
        twice=st.booleans(),
    )
    def append(self, pick: int, count: int, last: Event | None, twice: bool) -> None:
        attempt = newest(self.attempts, pick)
        job, stale = attempt.job, attempt.stale
        events: list[Event] = [Token("x", i, 1) for i in range(count)] + ([last] if last else [])
        fields = json_fields(result=last.result) if isinstance(last, Succeeded) else {}
        asked = Append(job.id, attempt.claim, attempt.number, attempt.next, time.time(), events, fields)
        appended = [self.ledger.append([asked]) for _ in range(1 + twice)]
        replies = [each.replies[0] for each in appended]
        attempt.next += len(events)
        if stale:
            # An append whose end the log has already is taken for a repeat. A job may also be forgotten.
            repeats = job in self.jobs and job.attempt == attempt.number and last and job.state == last.type
            repeats = repeats and len(job.log) == attempt.next - 1
            assert set(replies) == {"ended" if repeats and events else "stale"}
            return
        job.log += ["token"] * count
        if last:
            job.end(last.type)
            assert set(replies) == {"ended"}
            for _, dispatched in itertools.chain.from_iterable(each.dispatched for each in appended):
                self._dispatched(dispatched)  # no job twice
        else:
            assert set(replies) == {"cancel" if job.cancel else "ok"}

    @precondition(lambda self: self.jobs)
    @rule(pick=PICK)
    def cancel(self, pick: int) -> None:
        job = newest(self.jobs, pick)
        was_dispatched = job.dispatched
        if job.state == "queued":
            job.end("canceled")
        job.cancel = job.cancel or job.state == "running"
        assert self.ledger.cancel(job.id) == job.state
        if was_dispatched:
            self._dispatched_meanwhile()

    @precondition(lambda self: self.jobs)
    @rule(pick=PICK, worker=WORKERS, reason=st.sampled_from(["drain", "redis_lost"]))
    def requeue(self, pick: int, worker: str, reason: Reason) -> None:
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
        self._dispatched_meanwhile()

    @rule()
    def pause_or_resume(self) -> None:
        queues = Queues(self.ledger.store)
        if QUEUE in queues.names():
            (queues.resume if self.paused else queues.pause)(QUEUE)
            self.paused = not self.paused

    @rule(worker=WORKERS)
    def renew(self, worker: str) -> None:
        self.registry.renew(card(worker, slots=SLOTS))
        self.ready.add(worker)

    @rule(worker=WORKERS)
    def lose_worker(self, worker: str) -> None:
        """Do what recovery does. A worker that renews its lease in between keeps its jobs."""
        for job_id in self.registry.jobs_of(worker):
            end, _ = self.registry.look(1.0).leases[worker]
            self.renew(worker)
            assert self.ledger.requeue(job_id, worker, "worker_lost", lease_end=end) is None
        lapse(self.ledger, worker)
        for job_id in self.registry.jobs_of(worker):
            self._requeued(self._job(job_id), worker, "worker_lost")
        self.registry.release(worker, 0)
        self.ready.discard(worker)

    @rule(worker=WORKERS)
    def release(self, worker: str) -> None:
        self.registry.release(worker)
        self.ready.discard(worker)
        owns = any(job.owner == worker for job in self.jobs)
        assert (worker in self.registry.lapsed()) == owns

    @precondition(lambda self: self.jobs)
    @rule(pick=PICK)
    def deadline_passes(self, pick: int) -> None:
        job = newest(self.jobs, pick)
        alive = job.state not in TERMINAL
        pass_deadline(self.ledger, job.id)
        assert self.ledger.end_overdue() == ([job.id] if alive else [])
        if alive:
            job.end("canceled" if job.cancel else "failed")
            error = self.ledger.get(job.id).error or {}
            code = "timeout" if job.started else "expired"
            assert error.get("code") == (None if job.cancel else code)

    @precondition(lambda self: self.jobs)
    @rule(pick=PICK)
    def remove_inputs(self, pick: int) -> None:
        job = newest(self.jobs, pick)
        self.ledger.inputs_removed(job.id)
        if job.state in TERMINAL:
            job.has_work = False
        if job.state == "succeeded":  # others keep their inputs for a retry
            job.file_bytes -= 0 if job.evicted else job.inputs
            job.inputs = 0

    @precondition(lambda self: self.jobs)
    @rule(pick=PICK)
    def forget(self, pick: int) -> None:
        job = newest(self.jobs, pick)
        self.ledger.forget_all([job.id])
        if job.state in TERMINAL:
            self.jobs.remove(job)

    @rule()
    def forget_scripts(self) -> None:
        self.ledger.store.client.script_flush()

    @invariant()
    def logs_are_complete(self) -> None:
        for job in self.jobs:
            events = self.ledger.events(job.id)
            assert [event.type for event in events] == job.log
            check_log(events, self.ledger.get(job.id).state)

    @invariant()
    def sets_agree_with_records(self) -> None:
        redis, key = self.ledger.store.client, self.ledger.store.key
        waiting = [job.id for job in self.jobs if job.state == "queued"]  # in the order of submission
        running = {job.id for job in self.jobs if job.state == "running"}
        assert redis.zrange(key("queue", QUEUE, "waiting"), 0, -1) == waiting
        assert redis.smembers(key("queue", QUEUE, "running")) == running
        assert set(redis.zrange(key("deadlines"), 0, -1)) == running | set(waiting)
        leased = set(redis.zrange(key("workers"), 0, -1))
        for worker in ("w1", "w2", "w3"):
            owned = {job.id for job in self.jobs if job.owner == worker}
            assert redis.smembers(key("worker", worker, "jobs")) == owned
            assert not owned or worker in leased, "no process would ever find out that this worker is lost"
        for key_ in ("a", "b"):
            mine = [job for job in self.jobs if job.key == key_]
            active = {job.id for job in mine if job.dispatched or job.state == "running"}
            assert redis.smembers(key("owner", key_, "active")) == active
            flow = {job.id for job in self._flows() if job.key == key_}
            assert set(redis.zrange(key("queue", QUEUE, "line", key_), 0, -1)) == flow
            assert (redis.zscore(key("queue", QUEUE, "turns"), key_) is not None) == bool(flow)
        assert redis.zcard(key("queue", QUEUE, "called")) == sum(job.dispatched for job in self.jobs)

    @invariant()
    def lengths_agree_with_jobs(self) -> None:
        key, more = self.ledger.store.key, Counter[str]()
        for job in self.jobs:
            if job.state == "queued":
                more[key("owner", job.key, "waiting")] += job.length - 1
            if job.dispatched:
                more[key("queue", QUEUE, "called")] += job.length - 1
            if job.dispatched or job.state == "running":
                more[key("owner", job.key, "active")] += job.length - 1
            if job.owner:
                more[key("worker", job.owner, "jobs")] += job.length - 1
        stored = self.ledger.store.client.hgetall(key("lengths"))
        assert stored == {name: str(number) for name, number in more.items() if number}

    @invariant()
    def indexes_agree_with_flows_and_workers(self) -> None:
        assert not list(index_flaws(self.ledger))

    @invariant()
    def accounts_agree_with_records(self) -> None:
        assert not list(account_flaws(self.ledger))
        with_inputs = {job.id for job in self.jobs if job.inputs and job.has_work and job.state in TERMINAL}
        assert set(self.ledger.with_inputs(0)) == with_inputs
        for key in ("a", "b"):
            accounts = self.ledger.store.client.hgetall(self.ledger.store.key("owner", key, "file_bytes"))
            expected = {job.id: str(job.file_bytes) for job in self.jobs if job.key == key and job.file_bytes}
            assert {name: accounts[name] for name in accounts if name not in ("total", "ended")} == expected
            evicted = {job.id for job in self.jobs if job.key == key and job.evicted}
            assert (
                self.ledger.store.client.smembers(self.ledger.store.key("owner", key, "evicted")) == evicted
            )

    @invariant()
    def positions_are_complete(self) -> None:
        positions = []
        for job in self.jobs:
            record = self.ledger.get(job.id)
            assert (record.state, record.attempt) == (job.state, job.attempt)
            positions += [record.position] if job.state == "queued" else []
        assert sorted(position or 0 for position in positions) == list(range(1, len(positions) + 1))


def check_log(events: Sequence[LoggedEvent], state: str) -> None:
    """Check forms, numbers without a gap, attempts that never decrease, and one terminal event at the end."""
    for event in events:
        check_vocabulary(event)
    assert [event.n for event in events] == list(range(1, len(events) + 1))
    attempts = [event.data["attempt"] for event in events]
    assert attempts == sorted(attempts)
    terminal = [event.type for event in events if event.terminal]
    assert terminal == ([state] if state in TERMINAL else [])
    assert not terminal or events[-1].terminal


@pytest.mark.parametrize(
    "examples", [4, pytest.param(200, marks=[pytest.mark.long, pytest.mark.timeout(1200)])]
)
def test_ledger_state_machine(redis_url: str, examples: int) -> None:
    base = Settings(redis_url=redis_url)
    run_state_machine_as_test(
        lambda: Machine(base),  # type: ignore[arg-type]  # its documentation allows a factory
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
