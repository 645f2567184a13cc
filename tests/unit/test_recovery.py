from collections.abc import Iterator

import pytest
from celery import Celery

from worker.jobs import broker
from worker.jobs.broker import hint_keys, send_hint
from worker.jobs.ledger import Ledger
from worker.jobs.media import JobFiles
from worker.jobs.records import WorkerCard
from worker.jobs.recovery import Recovery
from worker.jobs.registry import Registry
from worker.jobs.settings import Settings
from worker.jobs.specs import validate

QUEUE = "chat.test"


@pytest.fixture
def quick(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    """A ledger whose leases end at once, with the broker on the same Redis."""
    short = settings.updated(lease_ttl_s=0.001)
    for name, value in short.to_env().items():
        monkeypatch.setenv(name, value)
    fresh = Celery("stoker", set_as_current=False)
    fresh.add_defaults(broker._config)  # read anew from these variables
    monkeypatch.setattr(broker, "app", fresh)
    ledger = Ledger(short)
    yield ledger
    fresh.close()
    ledger.redis.close()


def submit(ledger: Ledger, job_id: str) -> None:
    ledger.submit(job_id, QUEUE, validate("chat", {"messages": [{"role": "user", "content": "Hi"}]}))


def hints(ledger: Ledger) -> int:
    return sum(ledger.redis.llen(key) for key in hint_keys(ledger.settings, QUEUE))


def card(name: str) -> WorkerCard:
    return WorkerCard(name, "chat", "host", 1, "cpu", "test", "fake", QUEUE, 4, 0)


def test_a_lost_workers_jobs_are_queued_again_with_a_hint(quick: Ledger) -> None:
    registry = Registry(quick)
    submit(quick, "a")
    registry.renew(card("w1"))
    quick.claim("a", "w1", "cpu")
    quick.redis.zadd(quick.key("workers"), {"w1": 0})  # the lease ended long ago
    Recovery(quick).round()
    assert quick.get("a").state == "queued"
    assert quick.events("a")[-1].data["reason"] == "worker_lost"
    assert hints(quick) == 1
    assert registry.workers() == []


def test_a_worker_that_renews_keeps_its_jobs(ledger: Ledger) -> None:
    Registry(ledger).renew(card("w1"))
    submit(ledger, "a")
    ledger.claim("a", "w1", "cpu")
    Recovery(ledger).round()
    assert ledger.get("a").state == "running"


def test_lost_hints_are_sent_again_once(quick: Ledger) -> None:
    submit(quick, "a")
    submit(quick, "b")
    send_hint("chat", "b", QUEUE)
    quick.redis.hset(quick.channel("a") + ":record", "created_at", 1)
    Recovery(quick).round()
    assert hints(quick) == 3
    Recovery(quick).round()
    assert hints(quick) == 3


def next_hints(ledger: Ledger, count: int) -> list[str]:
    """What a worker would receive, in order."""
    with broker.app.connection_for_read() as connection, connection.SimpleQueue(QUEUE) as queue:
        messages = [queue.get(timeout=5) for _ in range(count)]
        for message in messages:
            message.ack()
        return [message.headers["id"] for message in messages]


def test_jobs_that_are_queued_again_go_first_in_their_old_order(quick: Ledger) -> None:
    registry = Registry(quick)
    for job_id in ("z", "y", "x", "new"):
        submit(quick, job_id)
    send_hint("chat", "new", QUEUE)
    registry.renew(card("w1"))
    for job_id in ("x", "z", "y"):
        quick.claim(job_id, "w1", "cpu")
    quick.redis.zadd(quick.key("workers"), {"w1": 0})
    Recovery(quick).round()
    assert next_hints(quick, 4) == ["z", "y", "x", "new"]
    assert [quick.get(job_id).position for job_id in ("z", "y", "x", "new")] == [1, 2, 3, 4]


def test_expired_jobs_leave_the_list_and_the_disk(quick: Ledger) -> None:
    submit(quick, "waits")
    submit(quick, "old")
    submit(quick, "new")
    files = JobFiles.of(quick.settings.media_dir, "old")
    files.folder.mkdir(parents=True)
    files.result.write_bytes(b"video")
    quick.cancel("old")
    quick.cancel("new")
    quick.redis.zadd(quick.key("finished"), {"old": 1})  # it ended long ago
    Recovery(quick).round()
    assert [record.id for record in quick.page()] == ["new", "waits"]
    assert not files.folder.exists()
