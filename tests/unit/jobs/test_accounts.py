"""What an owner keeps: the accounts of its jobs, the caps on them, and the eviction of ended jobs."""

from collections.abc import Sequence

import pytest

from tests.support.ledger import QUEUE, append_of, check_accounts
from worker.jobs.dispatch.file_cleanup import FileCleanup
from worker.jobs.errors import JobNotFound, QueueFull, StorageFull
from worker.jobs.events import Canceled, Event, Succeeded, Token
from worker.jobs.ledger.appends import json_fields
from worker.jobs.ledger.ledger import IdempotencyKey, Ledger
from worker.jobs.ledger.queues import Queues
from worker.jobs.ledger.store import RedisStore
from worker.jobs.media.files import JobFiles
from worker.jobs.media.open import open_media_store
from worker.jobs.specs import ChatJob, VideoJob, validate

VIDEO = validate(VideoJob, {})
#: The bytes of a video's result in these tests.
RESULT_BYTES = 30


def capped(ledger: Ledger, **caps: int) -> Ledger:
    """Return the ledger with these caps, on the same connection."""
    return Ledger(RedisStore(ledger.store.settings.replace(**caps), ledger.store.client))


def submit(ledger: Ledger, job_id: str, owner: str = "a", text: str = "Hi", **options: str) -> None:
    chat = validate(ChatJob, {"messages": [{"role": "user", "content": text}], **options})
    ledger.submit(job_id, QUEUE, chat, owner)


def submit_video(ledger: Ledger, number: int, clip_bytes: int = 10) -> str:
    """Submit a video of owner a, with a clip. Return its id, which consists of this digit."""
    job_id = str(number) * 32
    files = JobFiles.at(ledger.store.settings.media_dir, job_id)
    with files.for_upload():
        files.clip.write_bytes(bytes(clip_bytes))
        ledger.submit(job_id, "video.test", VIDEO, "a", file_bytes=files.input_bytes)
    return job_id


def run(ledger: Ledger, job_id: str, last: Event | None = None) -> None:
    """Run the video to its end. By default it succeeds, with a result."""
    files, record = JobFiles.at(ledger.store.settings.media_dir, job_id), ledger.claim(job_id, "w1", "cpu")
    assert record
    files.result.write_bytes(bytes(RESULT_BYTES))
    end = last or Succeeded({"bytes": RESULT_BYTES}, {})
    fields = json_fields(result=end.result) if isinstance(end, Succeeded) else {}
    ledger.append([append_of(ledger, job_id, record.events + 1, [end], fields)])


def cleanup(ledger: Ledger) -> FileCleanup:
    return FileCleanup(ledger, open_media_store(ledger.store.settings))


def file_bytes(ledger: Ledger) -> int:
    """Return the total of owner a's account of files, which must agree with its entries."""
    check_accounts(ledger)
    return int(ledger.store.client.hget(ledger.store.key("owner", "a", "file_bytes"), "total") or 0)


def kept(ledger: Ledger, owner: str = "a") -> Sequence[str]:
    return [record.id for record in ledger.page(owner=owner, limit=1000)]


def end_chats(ledger: Ledger, *job_ids: str, owner: str = "a") -> int:
    """Submit chats and cancel them. Return the bytes of the owner's jobs."""
    for job_id in job_ids:
        submit(ledger, job_id, owner)
        ledger.cancel(job_id)
    return int(ledger.store.client.hget(ledger.store.key("owner", owner, "bytes"), "total") or 0)


def test_cleanup_removes_what_ended_jobs_no_longer_need(ledger: Ledger) -> None:
    done, failed, canceled, waiting = (submit_video(ledger, number) for number in range(4))
    run(ledger, done)
    run(ledger, failed, Canceled())
    ledger.cancel(canceled)
    assert file_bytes(ledger) == 4 * 10 + RESULT_BYTES
    cleanup(ledger).remove_inputs(60)  # they have just ended
    assert file_bytes(ledger) == 4 * 10 + RESULT_BYTES
    cleanup(ledger).remove_inputs(0)
    media = ledger.store.settings.media_dir
    left = {path.relative_to(media).as_posix() for path in media.rglob("*") if path.is_file()}
    # A retry of the others needs their clips.
    assert left == {f"{done}/result.mp4", *(f"{other}/clip" for other in (failed, canceled, waiting))}
    assert file_bytes(ledger) == RESULT_BYTES + 3 * 10
    assert ledger.with_inputs(0) == []


def test_submit_evicts_the_oldest_ended_jobs(ledger: Ledger) -> None:
    small = capped(ledger, max_kept_jobs=2)
    submit(small, "waits")
    for job_id in ("1", "2", "3"):
        submit(small, job_id)
        small.cancel(job_id)
    submit(small, "other", owner="b")
    assert kept(small) == ["3", "2", "1", "waits"]
    submit(small, "4")
    assert kept(small) == ["4", "3", "2", "waits"]
    assert [record.id for record in small.page(owner="b")] == ["other"]
    with pytest.raises(JobNotFound):
        small.get("1")
    check_accounts(small)


def test_submit_evicts_ended_jobs_whose_bytes_are_needed(ledger: Ledger) -> None:
    small = capped(ledger, max_kept_bytes=60_000)
    for job_id in ("1", "2", "3"):
        submit(small, job_id, text="x" * 20_000)
        small.cancel(job_id)
    assert kept(small) == ["3", "2"]
    submit(small, "4", text="x" * 20_000)
    assert kept(small) == ["4", "3"]
    check_accounts(small)


def test_submit_refuses_bytes_that_unfinished_jobs_need(ledger: Ledger) -> None:
    small = capped(ledger, max_kept_bytes=60_000)
    submit(small, "1", text="x" * 20_000)
    submit(small, "2", text="x" * 20_000)
    with pytest.raises(StorageFull):
        submit(small, "3", text="x" * 20_000)
    submit(small, "other", owner="b", text="x" * 20_000)
    submit(small, "small")
    small.cancel("1")
    submit(small, "3", text="x" * 20_000)
    assert kept(small) == ["3", "small", "2"]


def test_refused_submit_evicts_nothing(ledger: Ledger) -> None:
    used = end_chats(ledger, "1", "2")
    done = submit_video(ledger, 3)
    run(ledger, done)
    submit_video(ledger, 4)
    before = kept(ledger)
    with pytest.raises(StorageFull):
        submit(capped(ledger, max_kept_bytes=used + 2000), "5", text="x" * (used + 2000))
    with pytest.raises(StorageFull):
        submit_video(capped(ledger, max_kept_file_bytes=RESULT_BYTES), 5, clip_bytes=RESULT_BYTES - 9)
    assert kept(ledger) == before
    assert file_bytes(ledger) == 10 + RESULT_BYTES + 10


def test_submit_that_needs_many_evictions_fits_at_a_later_try(ledger: Ledger) -> None:
    used = end_chats(ledger, *map(str, range(120)))
    small = capped(ledger, max_kept_bytes=used)
    text = "x" * (used * 110 // 120)
    with pytest.raises(StorageFull):
        submit(small, "large", text=text)
    assert kept(small) == [str(number) for number in reversed(range(100, 120))]
    submit(small, "large", text=text)
    assert kept(small)[0] == "large"
    check_accounts(small)


def test_submit_reaches_a_lowered_cap_in_steps(ledger: Ledger) -> None:
    end_chats(ledger, *map(str, range(120)))
    small = capped(ledger, max_kept_jobs=5)
    submit(small, "first")
    assert len(kept(small)) == 20 + 1
    submit(small, "second")
    assert len(kept(small)) == 5 + 2


def test_submit_evicts_jobs_with_an_undelivered_webhook_last(ledger: Ledger) -> None:
    small = capped(ledger, max_kept_jobs=3)
    submit(ledger, "hook", webhook_url="https://example.com/")
    ledger.cancel("hook")
    end_chats(ledger, "1", "2", "3", "4")
    submit(small, "5")
    assert kept(small) == ["5", "4", "3", "hook"]
    ledger.store.client.zadd(
        ledger.store.key("owner", "a", "webhooks"), {"hook": 1}
    )  # recovery has sorted it
    ledger.store.client.delete(ledger.store.key("webhooks"))
    small = capped(ledger, max_kept_jobs=1)
    submit(small, "6")
    assert kept(small) == ["6", "5", "hook"]


def test_check_room_evicts_nothing_for_an_upload_that_fits(ledger: Ledger) -> None:
    done = submit_video(ledger, 1)
    run(ledger, done)
    queues = Queues(capped(ledger, max_kept_file_bytes=RESULT_BYTES + 10).store)
    queues.check_room("video.test", "a", RESULT_BYTES + 10)
    with pytest.raises(StorageFull):
        queues.check_room("video.test", "a", RESULT_BYTES + 11)
    assert kept(ledger) == [done]
    assert file_bytes(ledger) == RESULT_BYTES + 10


def test_check_room_refuses_before_an_upload(ledger: Ledger) -> None:
    Queues(capped(ledger, max_kept_file_bytes=25).store).check_room("video.test", "a")
    for number in (1, 2):
        submit_video(ledger, number)
    with pytest.raises(StorageFull):
        Queues(capped(ledger, max_kept_file_bytes=19).store).check_room("video.test", "a")
    with pytest.raises(StorageFull):
        submit_video(capped(ledger, max_kept_file_bytes=25), 3)
    assert not (ledger.store.settings.media_dir / ("3" * 32)).exists()
    assert file_bytes(ledger) == 20


def test_submit_evicts_videos_whose_files_the_cleanup_removes(ledger: Ledger) -> None:
    small = capped(ledger, max_kept_file_bytes=2 * RESULT_BYTES + 10)
    first, second = submit_video(small, 1), submit_video(small, 2)
    run(small, first)
    run(small, second)
    cleanup(small).remove_inputs(0)
    third = submit_video(small, 3)  # this makes 2 results and a clip, which fit
    assert kept(small) == [third, second, first]
    small.cancel(third)
    fourth = submit_video(small, 4)
    assert file_bytes(small) == RESULT_BYTES + 2 * 10
    cleanup(small).drop_expired()
    assert kept(small) == [fourth, third, second]
    assert not (small.store.settings.media_dir / first).exists()
    cleanup(small).remove_inputs(0)
    assert file_bytes(small) == RESULT_BYTES + 2 * 10  # the clip of the canceled one stays


def test_submit_stops_evicting_when_no_cleanup_follows(ledger: Ledger) -> None:
    small = capped(ledger, max_kept_jobs=1)
    ledger.store.client.sadd(
        ledger.store.key("owner", "a", "evicted"), *(f"evicted {number}" for number in range(100))
    )
    ledger.store.client.zadd(ledger.store.key("finished"), {f"evicted {number}": 0 for number in range(100)})
    end_chats(small, "a1", "a2")
    with pytest.raises(StorageFull):
        submit(small, "a3")
    assert kept(small) == ["a2", "a1"]
    end_chats(small, "b1", "b2", "b3", owner="b")  # another owner's jobs are evicted all the same
    assert kept(small, "b") == ["b3", "b2"]


def test_repeated_submit_needs_no_room(ledger: Ledger) -> None:
    chat = validate(ChatJob, {"messages": [{"role": "user", "content": "Hi"}]})
    key = IdempotencyKey("k", "body")
    ledger.submit("1", QUEUE, chat, "a", key)
    full = capped(ledger, max_kept_bytes=1)
    assert full.submit("2", QUEUE, chat, "a", key).job_id == "1"
    with pytest.raises(StorageFull):
        full.submit("3", QUEUE, chat, "a")


@pytest.mark.parametrize("owner", ["", "a"])
def test_forget_closes_the_account_of_a_job_whose_record_has_expired(ledger: Ledger, owner: str) -> None:
    ledger.store.client.sadd(ledger.store.key("keys"), "a")
    submit(ledger, "1", owner)
    ledger.cancel("1")
    ledger.store.client.delete(ledger.store.channel("1") + ":record")
    ledger.forget_all(["1"])
    assert ledger.store.client.hgetall(ledger.store.key("owner", owner, "bytes")) == {
        "total": "0",
        "ended": "0",
    }
    assert ledger.store.client.zcard(ledger.store.key("owner", owner, "ended")) == 0
    assert ledger.store.client.zcard(ledger.store.key("owner", owner, "jobs")) == 0


def test_full_queue_takes_owners_with_less_than_their_share(ledger: Ledger) -> None:
    small = capped(ledger, max_waiting=4)
    for number in range(4):
        submit(small, f"a{number}")
    with pytest.raises(QueueFull):
        submit(small, "a4")
    for number in range(2):
        submit(small, f"b{number}", owner="b")
    submit(small, "c0", owner="c")  # with three owners each may have two
    with pytest.raises(QueueFull):
        submit(small, "b2", owner="b")


def test_keys_without_a_limit_may_have_max_waiting_per_key(ledger: Ledger) -> None:
    small = capped(ledger, max_waiting_per_key=2)
    ledger.store.client.hset(ledger.store.key("key", "b"), "max_waiting", 3)
    for number in range(3):
        submit(small, f"b{number}", owner="b")
        submit(small, f"keyless{number}", owner="")
    for number in range(2):
        submit(small, f"a{number}")
    for owner in ("a", "b"):
        with pytest.raises(QueueFull, match="this API key"):
            submit(small, f"{owner}4", owner=owner)
    submit(small, "keyless4", owner="")


def test_log_of_few_events_takes_little_memory(ledger: Ledger) -> None:
    """Redis allocates 4 KiB for the first event of a stream. Its consumer groups stay."""
    client, log = ledger.store.client, ledger.store.channel("a") + ":events"
    submit(ledger, "a")
    assert (client.memory_usage(log) or 0) < 1024
    client.xgroup_create(log, "readers", "0")
    record = ledger.claim("a", "w1", "cpu")
    assert record
    events = [*(Token("Hi" * 50, index, 1) for index in range(20)), Succeeded({}, {})]
    ledger.append([append_of(ledger, "a", record.events + 1, events)])
    logged = ledger.events("a")
    assert [event.type for event in logged] == ["queued", "started", *["token"] * 20, "succeeded"]
    assert (client.memory_usage(log) or 0) < 2 * sum(len(event.text) for event in logged)
    assert [group["name"] for group in client.xinfo_groups(log)] == ["readers"]
