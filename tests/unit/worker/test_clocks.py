"""Clocks that are wrong: those of hosts, and that of Redis, which is set while jobs run."""

import time
from datetime import datetime

import pytest

from tests.support.clocks import host_clock_ahead
from tests.support.job_ids import A, B
from tests.support.ledger import QUEUE, card
from tests.support.stack import eventually
from worker.jobs.dispatch.dispatcher import Dispatcher
from worker.jobs.dispatch.recovery import Recovery
from worker.jobs.events import Succeeded
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.ledger.registry import Registry
from worker.jobs.ledger.store import RedisStore
from worker.jobs.media.files import JobFiles
from worker.jobs.specs import ChatJob, VideoJob, validate
from worker.runs.outbox import Outbox
from worker.runs.run import Run

WAIT_S = 20.0
TWO_DAYS_S = 2 * 86_400
DONE = Succeeded({"bytes": 5}, {})


def run_video(ledger: Ledger) -> None:
    """Submit a video, run it to its end, and leave its files."""
    outbox = Outbox(Dispatcher(ledger.store))
    outbox.start()
    ledger.submit(A, "video.test", validate(VideoJob, {}), file_bytes=5)
    files = JobFiles.at(ledger.store.settings.media_dir, A)
    files.folder.mkdir(parents=True)
    files.result.write_bytes(b"video")
    record = ledger.claim(A, "w1", "cpu")
    assert record is not None
    run = Run(record, outbox)
    run.emit(DONE, result=DONE.result)
    assert run.over.wait(WAIT_S)
    outbox.stop(WAIT_S)


@pytest.mark.parametrize(
    ("worker_s", "recovery_s"),
    [(-TWO_DAYS_S, 0), (TWO_DAYS_S, 0), (0, -TWO_DAYS_S), (0, TWO_DAYS_S)],
)
def test_clock_of_a_host_deletes_nothing(ledger: Ledger, worker_s: float, recovery_s: float) -> None:
    began = time.time()
    with host_clock_ahead(worker_s):
        run_video(ledger)
    with host_clock_ahead(recovery_s):
        Recovery(Dispatcher(ledger.store)).run_files_round()
    assert JobFiles.at(ledger.store.settings.media_dir, A).result.exists()
    record = ledger.get(A)
    times = [record.created_at, record.started_at, record.finished_at]
    times += [datetime.fromisoformat(event.data["time"]).timestamp() for event in ledger.events(A)]
    assert all(at is not None and abs(at - began) < 600 for at in times)


def set_redis_clock(ledger: Ledger, seconds: float) -> None:
    """Make the stored times such as if the clock of Redis had been set forward, or back, by so much."""
    redis, key = ledger.store.client, ledger.store.key
    for name in ("workers", f"queue:{QUEUE}:called"):
        for member in redis.zrange(key(name), 0, -1):
            redis.zincrby(key(name), -seconds, str(member))
    for task in redis.scan_iter(key("recovery", "*")):
        redis.pexpire(task, max(1, round(redis.pttl(task) - 1000 * seconds)))


@pytest.mark.parametrize("seconds", [-600, 600])
def test_leases_survive_a_jump_of_the_clock_of_redis(brokered: Ledger, seconds: float) -> None:
    short = Ledger(RedisStore(brokered.store.settings.replace(lease_ttl_s=1)))
    registry, dispatcher = Registry(short.store), Dispatcher(short.store)

    def renew_and_look() -> bool:
        registry.renew(card("alive"))
        recovery.run_jobs_round()
        return short.get(B).state == "queued"

    for job_id, worker in ((A, "alive"), (B, "killed")):
        registry.renew(card(worker))
        short.submit(job_id, QUEUE, validate(ChatJob, {"messages": [{"role": "user", "content": "Hi"}]}))
        assert short.claim(job_id, worker, "cpu")
    Recovery(dispatcher).run_jobs_round()
    set_redis_clock(short, seconds)
    recovery = Recovery(dispatcher)  # a new one, because a change of the stored ends is a renewal
    recovery.run_jobs_round()
    assert short.get(A).state == short.get(B).state == "running"
    eventually(renew_and_look, "the job of a killed worker goes back", WAIT_S)
    assert short.get(A).state == "running"
    assert [worker.name for worker in registry.live()] == ["alive"]
    short.store.close()
