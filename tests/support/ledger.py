"""Helpers that write to the ledger's keys directly, so that tests need not wait for leases and deadlines."""

from worker.jobs.ledger.ledger import Ledger
from worker.jobs.records import WorkerCard

__all__ = ["QUEUE", "a_second_later", "card", "lapse", "pass_deadline"]

#: The queue of the jobs in the ledger's own tests.
QUEUE = "chat.test"


def card(name: str, slots: int = 4) -> WorkerCard:
    """Return the card of a ready worker that serves `QUEUE`."""
    return WorkerCard(name, "chat", "host", 1, "cpu", "test", "fake", QUEUE, slots, 0, state="ready")


def lapse(ledger: Ledger, *workers: str) -> None:
    """End the leases of these workers, as if they had sent no heartbeat for `lease_ttl_s`."""
    ledger.redis.zadd(ledger.key("workers"), dict.fromkeys(workers, 0))


def pass_deadline(ledger: Ledger, job_id: str) -> None:
    """Move the job's deadline, if it has one, into the past."""
    ledger.redis.zadd(ledger.key("deadlines"), {job_id: 0}, xx=True)


def a_second_later(ledger: Ledger) -> None:
    """Forget when positions were logged, so that the limit of one position event a second does not apply."""
    for key in ledger.redis.scan_iter(f"{ledger.key('job')}:*:record"):
        ledger.redis.hdel(key, "told_at")
