import threading
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from tests.support.job_ids import A
from tests.support.ledger import QUEUE, card, lapse
from tests.support.refusing import refusing
from tests.support.stack import WAIT_S, eventually
from tests.support.valkey import restartable_valkey
from worker.jobs import broker
from worker.jobs.broker import messages_key
from worker.jobs.dispatch.dispatcher import Dispatcher
from worker.jobs.dispatch.file_cleanup import FileCleanup
from worker.jobs.dispatch.recovery import Recovery
from worker.jobs.errors import MediaUnavailable
from worker.jobs.ledger.announcements import Announcements
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.ledger.queues import Queues
from worker.jobs.ledger.registry import Registry
from worker.jobs.ledger.rounds import Rounds
from worker.jobs.ledger.store import RedisStore
from worker.jobs.media.files import JobFiles
from worker.jobs.media.local import LocalMedia
from worker.jobs.media.open import open_media_store
from worker.jobs.settings import Settings
from worker.jobs.specs import ChatJob, VideoJob, validate


def submit(ledger: Ledger, job_id: str) -> None:
    ledger.submit(job_id, QUEUE, validate(ChatJob, {"messages": [{"role": "user", "content": "Hi"}]}))


def cleanup(ledger: Ledger) -> FileCleanup:
    return FileCleanup(ledger, open_media_store(ledger.store.settings))


def take_from_lost_workers(ledger: Ledger) -> None:
    recovery = Recovery(Dispatcher(ledger.store))
    recovery.run_jobs_round()


def message_count(ledger: Ledger) -> int:
    return ledger.store.client.llen(messages_key(ledger.store.settings, QUEUE))


def lose_messages(ledger: Ledger) -> None:
    ledger.store.client.delete(messages_key(ledger.store.settings, QUEUE))


def next_messages(ledger: Ledger, count: int) -> list[str]:
    """Return the jobs of the messages that a worker would receive, in order."""
    with broker.app.connection_for_read() as connection, connection.SimpleQueue(QUEUE) as queue:
        messages = [queue.get(timeout=WAIT_S) for _ in range(count)]
        for message in messages:
            message.ack()
        return [message.headers["id"] for message in messages]


def test_recovery_requeues_jobs_of_lost_worker(brokered: Ledger) -> None:
    registry = Registry(brokered.store)
    submit(brokered, "a")
    registry.renew(card("w1"))
    registry.renew(card("w2"))
    brokered.claim("a", "w1", "cpu")
    lapse(brokered, "w1")
    take_from_lost_workers(brokered)
    assert brokered.get("a").state == "queued"
    assert brokered.events("a")[-1].data["reason"] == "worker_lost"
    assert message_count(brokered) == 1
    assert [worker.name for worker in registry.workers()] == ["w2"]


def test_recovery_dispatches_nothing_to_the_slots_of_a_lost_worker(brokered: Ledger) -> None:
    submit(brokered, "a")
    Registry(brokered.store).renew(card("w1"))
    brokered.claim("a", "w1", "cpu")
    lapse(brokered, "w1")
    take_from_lost_workers(brokered)
    assert brokered.get("a").state == "queued"
    assert message_count(brokered) == 0


def test_recovery_takes_no_round_while_nothing_is_undone(ledger: Ledger) -> None:
    registry = Registry(ledger.store)
    registry.renew(card("w1"))
    look = registry.look(60)
    assert (list(look.leases), look.undone, look.first) == (["w1"], False, False)
    submit(ledger, "a")
    looks = [registry.look(60) for _ in range(2)]
    assert [(look.undone, look.first) for look in looks] == [(True, True), (True, False)]
    ledger.cancel("a")
    assert not registry.look(60).undone


def test_few_processes_watch_the_leases(ledger: Ledger) -> None:
    """The others get no leases and take no round, until a watcher has not asked for a lease."""
    processes = [Registry(ledger.store) for _ in range(9)]
    processes[0].renew(card("w1"))
    ledger.submit("a", QUEUE, validate(ChatJob, {"messages": [{"role": "user", "content": "Hi"}]}))
    looks = [process.look(0.001) for process in processes]
    assert [bool(look.leases) for look in looks] == [True] * 8 + [False]
    assert looks[8].undone
    assert not looks[8].first
    watchers = ledger.store.key("watchers")
    for end in (0, 1e12):  # its lease has ended; the clock of Redis was set back
        oldest = cast("list[str]", ledger.store.client.zrange(watchers, 0, 0))
        ledger.store.client.zadd(watchers, dict.fromkeys(oldest, end))
        newcomer = Registry(ledger.store)
        assert newcomer.look(0.001).leases
        assert not processes[8].look(0.001).leases


def test_recovery_deletes_messages_of_jobs_that_have_ended(brokered: Ledger) -> None:
    """A message has the job's prompt, and no worker fetches this one."""
    registry, queues = Registry(brokered.store), Queues(brokered.store)
    registry.renew(card("w1", slots=2))
    for job_id in ("a", "b"):
        submit(brokered, job_id)
    queues.drop_messages()
    assert message_count(brokered) == 2
    registry.release("w1")
    brokered.cancel("a")  # the other job is taken back
    assert message_count(brokered) == 2
    Recovery(Dispatcher(brokered.store)).run_files_round()
    assert message_count(brokered) == 0
    registry.renew(card("w2"))
    assert queues.dispatch_jobs(QUEUE) == ["b"]
    assert message_count(brokered) == 1


def test_recovery_finds_a_lost_worker_between_short_jobs(brokered: Ledger) -> None:
    """Each job comes after a rest, in which this process has not seen whether the worker lives."""
    store = RedisStore(brokered.store.settings.replace(lease_ttl_s=1))
    announcements, registry = Announcements(store), Registry(store)
    recovery = Recovery(Dispatcher(store), announcements=announcements)
    registry.renew(card("w1"))
    store.client.zadd(store.key("workers"), {"w1": 1})
    recovery.start()
    announcements.start()
    never = threading.Event()
    for number in range(16):
        submit(brokered, f"a{number}")
        never.wait(0.25)
        brokered.cancel(f"a{number}")
        never.wait(0.5)
        if not registry.workers():
            break
    assert registry.workers() == []
    recovery.stop()
    store.close()


def test_recovery_has_work_while_a_webhook_is_due(ledger: Ledger) -> None:
    spec = {"messages": [{"role": "user", "content": "Hi"}], "webhook_url": "https://example.org/"}
    ledger.submit("a", QUEUE, validate(ChatJob, spec))
    ledger.cancel("a")
    registry = Registry(ledger.store)
    assert registry.look(60).undone
    ledger.forget("a")
    assert not registry.look(60).undone


def test_recovery_looks_often_from_the_submit_on(brokered: Ledger) -> None:
    store = RedisStore(brokered.store.settings.replace(lease_ttl_s=3600))  # rounds come once in an hour
    dispatcher, announcements = Dispatcher(store), Announcements(store)
    recovery = Recovery(dispatcher, announcements=announcements)
    recovery.run_jobs_round()
    recovery.start()
    announcements.start()
    spec = {"messages": [{"role": "user", "content": "Hi"}], "max_queue_s": 0.001}
    dispatcher.submit("a", QUEUE, validate(ChatJob, spec))
    eventually(lambda: brokered.get("a").state == "failed", "the end of a job whose deadline has passed")
    recovery.stop()
    store.close()


def test_only_the_first_job_is_announced(ledger: Ledger) -> None:
    work = ledger.store.key("announce", "work")
    with ledger.store.client.pubsub() as pubsub:  # type: ignore[no-untyped-call]
        pubsub.subscribe(work)
        submit(ledger, "a")
        submit(ledger, "b")
        ledger.store.client.publish(work, "the end")
        messages = [pubsub.get_message(timeout=WAIT_S) for _ in range(3)]
        assert [each["data"] for each in messages] == [1, "", "the end"]


def test_rounds_are_taken_once_in_an_interval(ledger: Ledger) -> None:
    one, other = Rounds(ledger.store), Rounds(ledger.store)
    assert [one.take("sweep", 60), one.take("sweep", 60), other.take("sweep", 60)] == [True, False, False]
    assert other.take("files", 60)
    ledger.store.client.delete(ledger.store.key("recovery", "sweep"))
    assert not other.take("sweep", 60), "a process asks again before the round that Redis has told it"
    assert Rounds(ledger.store).take("sweep", 60)


def test_recovery_leaves_jobs_of_live_worker(ledger: Ledger) -> None:
    Registry(ledger.store).renew(card("w1"))
    submit(ledger, "a")
    ledger.claim("a", "w1", "cpu")
    take_from_lost_workers(ledger)
    assert ledger.get("a").state == "running"


def test_recovery_resends_lost_messages_once(brokered: Ledger) -> None:
    Registry(brokered.store).renew(card("w1", slots=3))
    for job_id in ("a", "b", "c", "waits"):
        submit(brokered, job_id)
    lose_messages(brokered)
    Dispatcher(brokered.store).send_again("b")
    Recovery(Dispatcher(brokered.store)).resend_lost_messages()
    Recovery(Dispatcher(brokered.store)).resend_lost_messages()
    assert next_messages(brokered, 3) == ["b", "a", "c"]
    assert message_count(brokered) == 0


def test_recovery_waits_a_lease_before_resending(brokered: Ledger) -> None:
    long_lease = Ledger(RedisStore(brokered.store.settings.replace(lease_ttl_s=60)))
    Registry(long_lease.store).renew(card("w1"))
    submit(long_lease, "a")
    lose_messages(brokered)
    Recovery(Dispatcher(long_lease.store)).resend_lost_messages()
    assert message_count(brokered) == 0
    long_lease.store.close()


def test_recovery_drops_dispatched_id_without_record(brokered: Ledger) -> None:
    Registry(brokered.store).renew(card("w1"))
    submit(brokered, "gone")
    submit(brokered, "a")
    lose_messages(brokered)
    brokered.store.client.delete(brokered.store.channel("gone") + ":record")
    Recovery(Dispatcher(brokered.store)).resend_lost_messages()
    assert next_messages(brokered, 1) == ["a"]
    assert brokered.get("a").position == 1


def test_recovery_dispatches_to_free_slots(brokered: Ledger) -> None:
    submit(brokered, "a")
    submit(brokered, "b")
    Registry(brokered.store).renew(card("w1", slots=1))
    Recovery(Dispatcher(brokered.store)).dispatch_waiting()
    Recovery(Dispatcher(brokered.store)).dispatch_waiting()
    assert next_messages(brokered, 1) == ["a"]
    assert message_count(brokered) == 0


def test_recovery_requeues_jobs_of_released_worker(brokered: Ledger) -> None:
    registry = Registry(brokered.store)
    submit(brokered, "a")
    registry.renew(card("w1"))
    brokered.claim("a", "w1", "cpu")
    registry.release("w1")
    assert registry.workers() == []
    take_from_lost_workers(brokered)
    assert brokered.get("a").state == "queued"
    assert registry.lapsed() == []


def test_registry_release_keeps_worker_that_has_renewed_its_lease(ledger: Ledger) -> None:
    registry = Registry(ledger.store)
    registry.renew(card("w1"))
    end, _ = registry.look(1.0).leases["w1"]
    registry.renew(card("w1"))
    registry.release("w1", end)
    assert [worker.name for worker in registry.workers()] == ["w1"]


def test_recovery_requeues_in_old_order(brokered: Ledger) -> None:
    registry = Registry(brokered.store)
    for job_id in ("z", "y", "x", "new"):
        submit(brokered, job_id)
    for job_id in ("x", "z", "y"):
        brokered.claim(job_id, "w1", "cpu")
    lapse(brokered, "w1")
    take_from_lost_workers(brokered)
    assert [brokered.get(job_id).position for job_id in ("z", "y", "x", "new")] == [1, 2, 3, 4]
    registry.renew(card("w2"))
    Recovery(Dispatcher(brokered.store)).dispatch_waiting()
    assert next_messages(brokered, 4) == ["z", "y", "x", "new"]


def test_recovery_drops_old_unneeded_files(brokered: Ledger) -> None:
    job, ended, orphan, upload = (digit * 32 for digit in "1234")
    for job_id in (job, ended):
        submit(brokered, job_id)
    brokered.cancel(ended)
    media = brokered.store.settings.media_dir
    for name in (job, ended, orphan, upload, "not-a-job"):
        (media / name / "work").mkdir(parents=True)
    cleanup(brokered).drop_unneeded(60)
    assert len(list(media.iterdir())) == 5
    redis, key = brokered.store.client, brokered.store.key
    assert set(redis.zrange(key("orphans"), 0, -1)) == {orphan, upload}
    redis.zadd(key("orphans"), {orphan: 1, "removed": 1})  # found long ago, as the end of the job
    redis.zadd(key("finished"), {ended: 1})
    cleanup(brokered).drop_unneeded(60)
    assert set(redis.zrange(key("orphans"), 0, -1)) == {orphan, upload}
    left = {folder.name for folder in media.iterdir() if (folder / "work").exists()}
    assert left == {job, upload, "not-a-job"}


def test_recovery_drops_expired_jobs_and_files(brokered: Ledger) -> None:
    submit(brokered, "waits")
    brokered.submit(A, "video.test", validate(VideoJob, {}), file_bytes=5)
    submit(brokered, "new")
    files = JobFiles.at(brokered.store.settings.media_dir, A)
    files.folder.mkdir(parents=True)
    files.result.write_bytes(b"video")
    brokered.cancel(A)
    brokered.cancel("new")
    brokered.store.client.zadd(brokered.store.key("finished"), {A: 1})  # it ended long ago
    cleanup(brokered).drop_expired()
    assert [record.id for record in brokered.page()] == ["new", "waits"]
    assert not files.folder.exists()


def test_recovery_removes_files_while_redis_refuses_writes(tmp_path: Path) -> None:
    """The disk of both may be full. Then Redis can write again when there is room."""
    with restartable_valkey(tmp_path / "valkey") as server:
        ledger = Ledger(RedisStore(Settings(redis_url=f"{server.connection_url}/0", home=tmp_path)))
        media = [JobFiles.at(ledger.store.settings.media_dir, digit * 32) for digit in "1234"]
        for files in media:
            files.work.mkdir(parents=True)
            ledger.submit(files.job_id, "video.test", validate(VideoJob, {}), file_bytes=5)
            files.clip.write_bytes(b"video")
        expired, ended, gone, waiting = (files.job_id for files in media)
        ledger.cancel(expired)
        ledger.cancel(ended)
        ledger.store.client.zadd(ledger.store.key("finished"), {expired: 1, gone: 1})
        ledger.store.client.zadd(ledger.store.key("inputs"), {ended: 1})
        ledger.store.client.delete(ledger.store.channel(gone) + ":record")
        recovery = Recovery(Dispatcher(ledger.store))
        with refusing(server, "MISCONF"):
            recovery.run_files_round()
            assert [files.work.exists() for files in media] == [False, False, False, True]
            assert [files.clip.exists() for files in media] == [False, True, False, True]
            assert {record.id for record in ledger.page()} == {expired, ended, waiting}
        recovery.run_files_round()
        assert {record.id for record in ledger.page()} == {ended, waiting}
        assert ledger.with_inputs(0) == []
        ledger.store.close()


def test_recovery_forgets_expired_chats_while_the_media_store_is_away(brokered: Ledger) -> None:
    class Away(LocalMedia):
        def files(self, job_id: str) -> JobFiles:
            raise MediaUnavailable("away")

        def all_files(self) -> Iterator[JobFiles]:
            raise MediaUnavailable("away")

    submit(brokered, "chat")
    brokered.submit(A, "video.test", validate(VideoJob, {}), file_bytes=5)
    for job_id in (A, "chat"):
        brokered.cancel(job_id)
    brokered.store.client.zadd(brokered.store.key("finished"), {A: 1, "chat": 1})
    FileCleanup(brokered, Away(brokered.store.settings.media_dir)).drop_expired()
    assert [record.id for record in brokered.page()] == [A]
    cleanup(brokered).drop_expired()
    assert brokered.page() == []


def test_recovery_removes_no_folder_that_redis_names(brokered: Ledger, tmp_path: Path) -> None:
    brokered.store.settings.media_dir.mkdir(parents=True)
    (victim := tmp_path / "victim").mkdir()
    ids = {str(victim): 1, f"../../{victim.name}": 1, "": 1, ".": 1, "..": 1}
    for job_id in ids:
        brokered.store.client.hset(
            brokered.store.channel(job_id) + ":record", mapping={"state": "succeeded", "owner": ""}
        )
    brokered.store.client.zadd(brokered.store.key("finished"), ids)
    cleanup(brokered).drop_expired()
    assert victim.exists()
    assert brokered.store.settings.media_dir.exists()
    assert brokered.store.client.zcard(brokered.store.key("finished")) == 0
