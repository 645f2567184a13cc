from worker.jobs import broker
from worker.jobs.broker import hint_keys, send_hint
from worker.jobs.ledger import Ledger
from worker.jobs.media import JobFiles
from worker.jobs.records import WorkerCard
from worker.jobs.recovery import Recovery
from worker.jobs.registry import Registry
from worker.jobs.specs import validate

QUEUE = "chat.test"


def submit(ledger: Ledger, job_id: str) -> None:
    ledger.submit(job_id, QUEUE, validate("chat", {"messages": [{"role": "user", "content": "Hi"}]}))


def hints(ledger: Ledger) -> int:
    return sum(ledger.redis.llen(key) for key in hint_keys(ledger.settings, QUEUE))


def card(name: str) -> WorkerCard:
    return WorkerCard(name, "chat", "host", 1, "cpu", "test", "fake", QUEUE, 4, 0)


def test_a_lost_workers_jobs_are_queued_again_with_a_hint(brokered: Ledger) -> None:
    registry = Registry(brokered)
    submit(brokered, "a")
    registry.renew(card("w1"))
    brokered.claim("a", "w1", "cpu")
    brokered.redis.zadd(brokered.key("workers"), {"w1": 0})  # the lease ended long ago
    Recovery(brokered).round()
    assert brokered.get("a").state == "queued"
    assert brokered.events("a")[-1].data["reason"] == "worker_lost"
    assert hints(brokered) == 1
    assert registry.workers() == []


def test_a_worker_that_renews_keeps_its_jobs(ledger: Ledger) -> None:
    Registry(ledger).renew(card("w1"))
    submit(ledger, "a")
    ledger.claim("a", "w1", "cpu")
    Recovery(ledger).round()
    assert ledger.get("a").state == "running"


def test_lost_hints_are_sent_again_once(brokered: Ledger) -> None:
    submit(brokered, "a")
    submit(brokered, "b")
    send_hint("chat", "b", QUEUE)
    brokered.redis.hset(brokered.channel("a") + ":record", "created_at", 1)
    Recovery(brokered).round()
    assert hints(brokered) == 3
    Recovery(brokered).round()
    assert hints(brokered) == 3


def next_hints(ledger: Ledger, count: int) -> list[str]:
    """What a worker would receive, in order."""
    with broker.app.connection_for_read() as connection, connection.SimpleQueue(QUEUE) as queue:
        messages = [queue.get(timeout=5) for _ in range(count)]
        for message in messages:
            message.ack()
        return [message.headers["id"] for message in messages]


def test_jobs_that_are_queued_again_go_first_in_their_old_order(brokered: Ledger) -> None:
    registry = Registry(brokered)
    for job_id in ("z", "y", "x", "new"):
        submit(brokered, job_id)
    send_hint("chat", "new", QUEUE)
    registry.renew(card("w1"))
    for job_id in ("x", "z", "y"):
        brokered.claim(job_id, "w1", "cpu")
    brokered.redis.zadd(brokered.key("workers"), {"w1": 0})
    Recovery(brokered).round()
    assert next_hints(brokered, 4) == ["z", "y", "x", "new"]
    assert [brokered.get(job_id).position for job_id in ("z", "y", "x", "new")] == [1, 2, 3, 4]


def test_expired_jobs_leave_the_list_and_the_disk(brokered: Ledger) -> None:
    submit(brokered, "waits")
    submit(brokered, "old")
    submit(brokered, "new")
    files = JobFiles.of(brokered.settings.media_dir, "old")
    files.folder.mkdir(parents=True)
    files.result.write_bytes(b"video")
    brokered.cancel("old")
    brokered.cancel("new")
    brokered.redis.zadd(brokered.key("finished"), {"old": 1})  # it ended long ago
    Recovery(brokered).round()
    assert [record.id for record in brokered.page()] == ["new", "waits"]
    assert not files.folder.exists()
