"""Helpers that write to the ledger's keys directly, so that tests need not wait for leases and deadlines."""

import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from webapi.documents.events import EventDocument
from worker.jobs.cards import WorkerCard
from worker.jobs.events import Event, LoggedEvent
from worker.jobs.ledger.appends import Append
from worker.jobs.ledger.ledger import Ledger

__all__ = [
    "QUEUE",
    "a_second_later",
    "account_flaws",
    "append_of",
    "card",
    "check_accounts",
    "check_vocabulary",
    "index_flaws",
    "lapse",
    "pass_deadline",
]

#: The queue of the jobs in the ledger's own tests.
QUEUE = "chat.test"
#: The constants `BACKGROUND` and `BACKGROUND_LAST` of `queue.lua`.
BACKGROUND_RANK, BACKGROUND_LAST = 10 * 2**40, 2**50


def card(name: str, slots: int = 4) -> WorkerCard:
    """Return the card of a ready worker that serves `QUEUE`."""
    return WorkerCard(name, "chat", "host", 1, "cpu", "test", "fake", QUEUE, slots, 0, state="ready")


def append_of(
    ledger: Ledger,
    job_id: str,
    first: int,
    events: Sequence[Event],
    fields: dict[str, Any] | None = None,
    *,
    attempt: int = 1,
    claim: str | None = None,
) -> Append:
    """Return an append of the attempt, by default under the name of the job's last claim."""
    (current,) = ledger.fields("claim", [job_id])
    return Append(job_id, claim or current or "", attempt, first, time.time(), events, fields or {})


def lapse(ledger: Ledger, *workers: str) -> None:
    """End the leases of these workers, as if they had sent no heartbeat for `lease_ttl_s`."""
    ledger.store.client.zadd(ledger.store.key("workers"), dict.fromkeys(workers, 0))


def pass_deadline(ledger: Ledger, job_id: str) -> None:
    """Move the job's deadline, if it has one, into the past."""
    ledger.store.client.zadd(ledger.store.key("deadlines"), {job_id: 0}, xx=True)


def a_second_later(ledger: Ledger) -> None:
    """Forget when positions were logged, so that the limit of one position event a second does not apply."""
    for key in ledger.store.client.scan_iter(f"{ledger.store.key('job')}:*:record", count=10_000):
        ledger.store.client.hdel(key, "told_at")


def account_flaws(ledger: Ledger) -> Iterator[str]:
    """Yield what is wrong with the owners' accounts, compared with a recount."""
    redis, start = ledger.store.client, ledger.store.key("owner", "")
    evicted = set(redis.zrange(ledger.store.key("finished"), 0, 0, byscore=True))
    for key in redis.scan_iter(f"{start}*:jobs", count=10_000):
        owner = key.removeprefix(start).removesuffix(":jobs")
        every = {*redis.zrange(key, 0, -1)}
        jobs = every - evicted
        ended = {job_id for job_id in jobs if ledger.get(job_id).terminal}
        for name in ("bytes", "file_bytes"):
            entries = redis.hgetall(ledger.store.key("owner", owner, name))
            noted = {part: int(entries.pop(part, 0)) for part in ("total", "ended")}
            for part, counted in (("total", entries.keys()), ("ended", ended & entries.keys())):
                if noted[part] != sum(int(entries[job_id]) for job_id in counted):
                    yield f"{part} of {name} of {owner!r} is {noted[part]}, its entries are {entries}"
            if not (jobs >= entries.keys() if name == "file_bytes" else jobs == entries.keys()):
                yield f"{name} of {owner!r} has the jobs {sorted(entries)} and not {sorted(jobs)}"
        if redis.smembers(ledger.store.key("owner", owner, "evicted")) != every & evicted:
            yield f"the evicted jobs of {owner!r} are {sorted(every & evicted)}"
        if {*redis.zrange(ledger.store.key("owner", owner, "ended"), 0, -1)} != ended:
            yield f"the ended jobs of {owner!r} are {sorted(ended)}"


def check_accounts(ledger: Ledger) -> None:
    """Assert that the owners' accounts agree with a recount."""
    assert not list(account_flaws(ledger))


def index_flaws(ledger: Ledger, queue: str = QUEUE) -> Iterator[str]:
    """Yield what is wrong with the indexes of a queue and of its workers, compared with a recount.

    No owner may be at its cap of running jobs, because the flow of such a one is not ready.
    """
    key = ledger.store.key
    redis: Any = ledger.store.client
    ready, lengths = {}, {}
    for owner, tag in redis.zrange(key("queue", queue, "turns"), 0, -1, withscores=True):
        ranks = [rank for _, rank in redis.zrange(key("queue", queue, "line", owner), 0, -1, withscores=True)]
        lengths[owner] = sum(rank < BACKGROUND_RANK for rank in ranks)
        ready[owner] = tag + (0 if lengths[owner] else BACKGROUND_LAST)
    for name, counted in (("ready", ready), ("lengths", lengths)):
        noted = dict(redis.zrange(key("queue", queue, name), 0, -1, withscores=True))
        if noted != counted:
            yield f"{name} is {noted} and not {counted}"
    yield from _room_flaws(ledger)


def _room_flaws(ledger: Ledger) -> Iterator[str]:
    """Yield what is wrong with the noted slots of workers."""
    key = ledger.store.key
    redis: Any = ledger.store.client
    room, sums = {}, Counter[str]()
    for name, text in redis.hgetall(key("worker", "cards")).items():
        card = json.loads(text)
        slots = card["slots"] if card["state"] == "ready" else 0
        jobs = redis.scard(key("worker", name, "jobs"))
        free = max(0, slots - jobs - int(redis.hget(key("lengths"), key("worker", name, "jobs")) or 0))
        room[name] = f"{slots} {free} {card['queue']}"
        sums.update({f"{card['queue']} slots": slots, f"{card['queue']} free": free})
    if (noted := redis.hgetall(key("worker", "room"))) != room:
        yield f"the room of the workers is {noted} and not {room}"
    noted = {
        name: int(number) for name, number in redis.hgetall(key("queues", "room")).items() if name[0] != ":"
    }
    if +Counter(noted) != +sums:
        yield f"the sums of the room are {noted} and not {dict(sums)}"


def check_vocabulary(event: LoggedEvent) -> None:
    """Raise `ValidationError` unless the event has exactly the fields of its type, and all in their types."""
    EventDocument.model_validate_json(event.text, strict=True, extra="forbid")
