"""The batches in Redis: what two processes that run the same batch can do."""

import pytest

from webapi.batches.batch import Batch
from webapi.batches.batch_store import BatchStore
from webapi.batches.run import _undone, job_id_of
from worker.jobs.errors import BatchNotFound, FileNotKept, IdempotencyConflict, QueueFull
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.ledger.store import RedisStore

ONE = (1, 0, 3, 0, 2, 0)


@pytest.fixture
def store(ledger: Ledger) -> RedisStore:
    ledger.store.client.hset(ledger.store.key("file", "f"), "owner", "a")
    return RedisStore(ledger.store.settings.replace(max_batches_per_key=2))


@pytest.fixture
def batches(store: RedisStore) -> BatchStore:
    return BatchStore(store)


def create(batches: BatchStore, batch_id: str = "b", owner: str = "a", fingerprint: str = "x") -> Batch:
    batches.create(batch_id, owner, input_file_id="f", fingerprint=fingerprint, expires_at=9e9)
    return batches.get(batch_id)


def test_part_is_added_by_the_first_of_two_processes(batches: BatchStore) -> None:
    batch = create(batches)
    assert batches.collect(batch, 0, "first", ONE, [1])
    assert not batches.collect(batch, 0, "second", ONE, [1])
    assert batches.collect(batch, 1, "third", (0, 2, 0, 0, 0, 0), [0, 9])
    assert batches.parts(batch) == ["first", "third"]
    assert list(_undone(batches.done(batch), 12)) == [2, 3, 4, 5, 6, 7, 8, 10, 11]
    found = batches.get("b")
    assert [found.number(name) for name in ("completed", "failed", "input_tokens")] == [1, 2, 3]


def test_status_is_changed_by_the_first_of_two_processes(batches: BatchStore) -> None:
    batch = create(batches)
    assert batches.change(batch, "cancelling", stop="cancelled")
    assert not batches.change(batch, "in_progress", total=5)
    found = batches.get("b")
    assert (found.status, found.stop, found.total) == ("cancelling", "cancelled", None)
    assert found.time("cancelling_at")
    assert batches.change(found, "cancelling", stop="expired")  # notes no time again
    assert batches.get("b").fields["cancelling_at"] == found.fields["cancelling_at"]


def test_batch_needs_a_file_of_its_owner_and_is_found_by_it_only(batches: BatchStore) -> None:
    with pytest.raises(FileNotKept):
        create(batches, owner="other")
    create(batches)
    with pytest.raises(BatchNotFound):
        batches.get("b", "other")


def test_batch_of_a_repeated_request_is_the_same(batches: BatchStore) -> None:
    create(batches)
    create(batches)
    assert [batch.id for batch in batches.list("a")] == ["b"]
    with pytest.raises(IdempotencyConflict):
        create(batches, fingerprint="y")


def test_unfinished_batches_are_limited_and_old_ended_ones_deleted(
    batches: BatchStore, store: RedisStore
) -> None:
    for number in range(4):
        batch = create(batches, f"b{number}")
        batches.change(batch, "failed")
        batches.close(batch)
        assert batches.done(batch) == b""
    assert [batch.id for batch in batches.list("a")] == ["b3", "b2"]
    assert store.client.ttl(store.key("batch", "b3")) > 0
    create(batches, "b4")
    create(batches, "b5")
    with pytest.raises(QueueFull):
        create(batches, "b6")
    assert [batch.id for batch in batches.unfinished()] == ["b4", "b5"]


def test_lease_belongs_to_one_process(store: RedisStore) -> None:
    assert store.take_lease("batches", "p", 60)
    assert not store.take_lease("batches", "q", 60)
    assert store.take_lease("batches", "p", 60)
    store.client.delete(store.key("lease", "batches"))
    assert store.take_lease("batches", "q", 60)


def test_job_ids_are_those_of_jobs_and_differ(batches: BatchStore) -> None:
    batch = create(batches)
    ids = {job_id_of(batch, number) for number in range(1000)}
    assert len(ids) == 1000
    assert all(len(job_id) == 32 and int(job_id, 16) >= 0 for job_id in ids)
