import os

from tests.conftest import lapse
from worker.jobs import broker
from worker.jobs.broker import messages_key
from worker.jobs.dispatch.dispatcher import dispatch
from worker.jobs.dispatch.recovery import Recovery, RedisUptime
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.ledger.registry import Registry
from worker.jobs.media.files import JobFiles
from worker.jobs.records import WorkerCard
from worker.jobs.specs import validate

QUEUE = "chat.test"


def submit(ledger: Ledger, job_id: str) -> None:
    ledger.submit(job_id, QUEUE, validate("chat", {"messages": [{"role": "user", "content": "Hi"}]}))


def hints(ledger: Ledger) -> int:
    return ledger.redis.llen(messages_key(ledger.settings, QUEUE))


def card(name: str, slots: int = 4) -> WorkerCard:
    return WorkerCard(name, "chat", "host", 1, "cpu", "test", "fake", QUEUE, slots, 0, state="ready")


def test_a_lost_workers_jobs_are_queued_again_with_a_hint(brokered: Ledger) -> None:
    registry = Registry(brokered)
    submit(brokered, "a")
    registry.renew(card("w1"))
    registry.renew(card("w2"))
    brokered.claim("a", "w1", "cpu")
    lapse(brokered, "w1")
    Recovery(brokered).take_from_lost_workers()
    assert brokered.get("a").state == "queued"
    assert brokered.events("a")[-1].data["reason"] == "worker_lost"
    assert hints(brokered) == 1
    assert registry.workers() == []


def test_a_worker_that_renews_keeps_its_jobs(ledger: Ledger) -> None:
    Registry(ledger).renew(card("w1"))
    submit(ledger, "a")
    ledger.claim("a", "w1", "cpu")
    Recovery(ledger).take_from_lost_workers()
    assert ledger.get("a").state == "running"


def test_lost_hints_are_sent_again_once(brokered: Ledger) -> None:
    Registry(brokered).renew(card("w1", slots=3))
    for job_id in ("a", "b", "c", "waits"):
        submit(brokered, job_id)
    dispatch(QUEUE, ["b"])
    Recovery(brokered).resend_lost_messages()
    Recovery(brokered).resend_lost_messages()
    assert next_hints(brokered, 3) == ["b", "a", "c"]
    assert hints(brokered) == 0


def test_the_hint_of_a_job_just_called_may_be_on_its_way(brokered: Ledger) -> None:
    patient = Ledger(brokered.settings.replace(lease_ttl_s=60))
    Registry(patient).renew(card("w1"))
    submit(patient, "a")
    Recovery(patient).resend_lost_messages()
    assert hints(brokered) == 0
    patient.redis.close()


def test_a_called_id_without_a_job_leaves_the_queue(brokered: Ledger) -> None:
    Registry(brokered).renew(card("w1"))
    submit(brokered, "gone")
    submit(brokered, "a")
    brokered.redis.delete(brokered.channel("gone") + ":record")
    Recovery(brokered).resend_lost_messages()
    assert next_hints(brokered, 1) == ["a"]
    assert brokered.get("a").position == 1


def test_whoever_has_a_free_slot_is_called_though_nobody_said_so(brokered: Ledger) -> None:
    submit(brokered, "a")
    submit(brokered, "b")
    Registry(brokered).renew(card("w1", slots=1))
    Recovery(brokered).dispatch_waiting()
    Recovery(brokered).dispatch_waiting()
    assert next_hints(brokered, 1) == ["a"]
    assert hints(brokered) == 0


def test_a_worker_that_leaves_a_job_behind_is_lost_at_once(brokered: Ledger) -> None:
    registry = Registry(brokered)
    submit(brokered, "a")
    registry.renew(card("w1"))
    brokered.claim("a", "w1", "cpu")
    registry.release("w1")
    assert registry.workers() == []
    Recovery(brokered).take_from_lost_workers()
    assert brokered.get("a").state == "queued"
    assert registry.lapsed() == []


def test_a_lease_renewed_meanwhile_is_not_taken_off_the_list(ledger: Ledger) -> None:
    registry = Registry(ledger)
    registry.renew(card("w1"))
    registry.release("w1", only_lapsed=True)
    assert [worker.name for worker in registry.workers()] == ["w1"]


def test_contact_counts_from_its_last_break() -> None:
    contact = RedisUptime(longest_break_s=2)
    assert contact.held_s == 0
    for now in (100, 101, 103):
        contact.made(now)
    assert contact.held_s == 3
    contact.made(106)  # Redis, or this very process, stood still
    assert contact.held_s == 0
    contact.made(107)
    contact.lost()
    assert contact.held_s == 0
    contact.made(108)
    assert contact.held_s == 0


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
    for job_id in ("x", "z", "y"):
        brokered.claim(job_id, "w1", "cpu")
    lapse(brokered, "w1")
    Recovery(brokered).take_from_lost_workers()
    assert [brokered.get(job_id).position for job_id in ("z", "y", "x", "new")] == [1, 2, 3, 4]
    registry.renew(card("w2"))
    Recovery(brokered).dispatch_waiting()
    assert next_hints(brokered, 4) == ["z", "y", "x", "new"]


def test_old_files_that_nobody_needs_are_removed(brokered: Ledger) -> None:
    for job_id in ("job", "ended"):
        submit(brokered, job_id)
    brokered.cancel("ended")
    media = brokered.settings.media_dir
    for name in ("job", "ended", "orphan", "upload"):
        (media / name / "work").mkdir(parents=True)
    for name in ("job", "ended", "orphan"):
        os.utime(media / name, (1, 1))
    Recovery(brokered).drop_files(60)
    assert sorted(folder.name for folder in media.iterdir()) == ["ended", "job", "upload"]
    assert [(media / name / "work").exists() for name in ("ended", "job", "upload")] == [False, True, True]


def test_expired_jobs_leave_the_list_and_the_disk(brokered: Ledger) -> None:
    submit(brokered, "waits")
    submit(brokered, "old")
    submit(brokered, "new")
    files = JobFiles.at(brokered.settings.media_dir, "old")
    files.folder.mkdir(parents=True)
    files.result.write_bytes(b"video")
    brokered.cancel("old")
    brokered.cancel("new")
    brokered.redis.zadd(brokered.key("finished"), {"old": 1})  # it ended long ago
    Recovery(brokered).drop_expired()
    assert [record.id for record in brokered.page()] == ["new", "waits"]
    assert not files.folder.exists()
