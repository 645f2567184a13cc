"""The webhook queue: each end of a job with a webhook makes one delivery due, and owners take turns."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.ledger import append_of, lapse, pass_deadline
from tests.support.stack import WAIT_S
from worker.jobs import broker
from worker.jobs.broker import messages_key
from worker.jobs.dispatch.dispatcher import Dispatcher
from worker.jobs.dispatch.recovery import Recovery
from worker.jobs.dispatch.webhook_limits import AT_ONCE, HOST_AT_ONCE, LOST_S, OWNER_AT_ONCE, QUEUE
from worker.jobs.dispatch.webhook_queue import WebhookQueue
from worker.jobs.events import Canceled, Failed, Succeeded
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.ledger.metrics_store import MetricsStore
from worker.jobs.metrics.series import grouped
from worker.jobs.specs import ChatJob, validate

CHAT, WORKER = "chat.test", "w1"
URL = "https://example.com/hook"


def submit(ledger: Ledger, job_id: str = "a", owner: str = "", **changes: Any) -> str:
    body = {"messages": [{"role": "user", "content": "Hi"}], "webhook_url": URL, **changes}
    ledger.submit(job_id, CHAT, validate(ChatJob, body), owner)
    return job_id


def end(ledger: Ledger, owner: str, count: int, host: str = "") -> None:
    """End `count` jobs of the owner. Each has a host of its own, unless there is a `host`."""
    for number in range(count):
        job_id = f"{owner}-{host}-{number}"
        ledger.cancel(submit(ledger, job_id, owner, webhook_url=f"https://{host or job_id}/hook"))


def run(ledger: Ledger, job_id: str = "a") -> None:
    assert ledger.claim(job_id, WORKER, "cpu") is not None


def appending(event: Any) -> Callable[[Ledger], None]:
    def append(ledger: Ledger) -> None:
        run(ledger)
        assert ledger.append([append_of(ledger, "a", 3, [event], {})]).replies == ["ended"]

    return append


def canceled_while_queued(ledger: Ledger) -> None:
    assert ledger.cancel("a") == "canceled"


def canceled_while_running(ledger: Ledger) -> None:
    run(ledger)
    assert ledger.cancel("a") == "running"
    assert ledger.append([append_of(ledger, "a", 3, [Canceled()], {})]).replies == ["ended"]


def canceled_and_worker_lost(ledger: Ledger) -> None:
    run(ledger)
    ledger.cancel("a")
    lapse(ledger, WORKER)
    Dispatcher(ledger.store).requeue("a", WORKER, "worker_lost")


def overdue(ledger: Ledger) -> None:
    pass_deadline(ledger, "a")
    assert ledger.end_overdue() == ["a"]


def overdue_while_running(ledger: Ledger) -> None:
    run(ledger)
    overdue(ledger)


def lost_max_attempts_times(ledger: Ledger) -> None:
    for _ in range(ledger.store.settings.max_attempts):
        assert ledger.claim("a", WORKER, "cpu", exclusive=True) is not None
        lapse(ledger, WORKER)
        Dispatcher(ledger.store).requeue("a", WORKER, "worker_lost")


FINAL_STATES: dict[str, tuple[Callable[[Ledger], None], str, str | None]] = {
    "succeeded": (appending(Succeeded({}, {})), "succeeded", None),
    "failed": (appending(Failed("engine_failed", "no")), "failed", None),
    "canceled while queued": (canceled_while_queued, "canceled", None),
    "canceled while running": (canceled_while_running, "canceled", None),
    "canceled without its worker": (canceled_and_worker_lost, "canceled", None),
    "expired": (overdue, "failed", "expired"),
    "timeout": (overdue_while_running, "failed", "timeout"),
    "worker_lost": (lost_max_attempts_times, "failed", "worker_lost"),
}


def due(ledger: Ledger, owner: str = "") -> dict[str, float]:
    """Return the owner's undelivered webhooks and all new ones, each with the time at which it is due."""
    found: dict[str, float] = {}
    for key in (ledger.store.key("webhooks"), ledger.store.key("owner", owner, "webhooks")):
        entries: Any = ledger.store.client.zrange(key, 0, -1, withscores=True)
        found |= dict(entries)
    return found


def outcomes(ledger: Ledger) -> dict[str, int]:
    """Return the counted outcomes of webhooks."""
    stored = grouped(MetricsStore(ledger.store).read())
    return {outcome: value for (outcome,), value in stored["stoker_webhook_deliveries_total"].items()}


def make_due(ledger: Ledger, owner: str = "") -> None:
    """Let time pass until the owner's webhooks are due, and until all tries in flight count as lost."""
    ledger.store.client.zadd(
        ledger.store.key("owner", owner, "webhooks"), dict.fromkeys(due(ledger, owner), 0), xx=True
    )
    tries: Any = ledger.store.client.hgetall(ledger.store.key("webhooks", "active"))
    for job_id, value in tries.items():
        ledger.store.client.hset(
            ledger.store.key("webhooks", "active"), job_id, "0 " + value.split(" ", 1)[1]
        )


def in_flight(ledger: Ledger) -> set[str]:
    tries: Any = ledger.store.client.hkeys(ledger.store.key("webhooks", "active"))
    return set(tries)


def now(ledger: Ledger) -> float:
    return float(ledger.store.client.time()[0] + 1)


def messages(ledger: Ledger) -> int:
    return ledger.store.client.llen(messages_key(ledger.store.settings, QUEUE))


def received(ledger: Ledger) -> list[tuple[str, int]]:
    """Receive all waiting messages. Return the job and the number of earlier tries of each."""
    found = []
    with broker.app.connection_for_read() as connection, connection.SimpleQueue(QUEUE) as queue:
        for _ in range(messages(ledger)):
            message = queue.get(timeout=WAIT_S)
            message.ack()
            found.append((message.payload[0][0], int(message.headers["retries"])))
    return found


@pytest.mark.parametrize("name", FINAL_STATES)
def test_final_state_makes_one_delivery_due(brokered: Ledger, name: str) -> None:
    end, state, code = FINAL_STATES[name]
    submit(brokered)
    assert due(brokered) == {}
    end(brokered)
    record = brokered.get("a")
    assert (record.state, (record.error or {}).get("code") if code else None) == (state, code)
    assert list(due(brokered)) == ["a"]
    assert due(brokered)["a"] <= now(brokered)


def test_job_without_webhook_has_no_delivery(ledger: Ledger) -> None:
    submit(ledger, webhook_url=None)
    ledger.cancel("a")
    assert due(ledger) == {}


def test_requeued_job_has_no_delivery(brokered: Ledger) -> None:
    submit(brokered)
    run(brokered)
    lapse(brokered, WORKER)
    Dispatcher(brokered.store).requeue("a", WORKER, "worker_lost")
    assert (brokered.get("a").state, due(brokered)) == ("queued", {})


def test_recovery_sends_one_message_until_it_must_be_lost(brokered: Ledger) -> None:
    webhook_queue = WebhookQueue(brokered.store)
    brokered.cancel(submit(brokered))
    Recovery(Dispatcher(brokered.store)).run_jobs_round()
    assert received(brokered) == [("a", 0)]
    assert due(brokered)["a"] > now(brokered) + LOST_S / 2
    webhook_queue.dispatch_due()
    assert messages(brokered) == 0
    assert webhook_queue.claim_try("a", 0)  # a sender began this try and died
    webhook_queue.dispatch_due()
    assert messages(brokered) == 0
    make_due(brokered)
    webhook_queue.dispatch_due()
    assert received(brokered) == [("a", 1)]  # the next message counts that try
    assert in_flight(brokered) == {"a"}


def test_claim_try_succeeds_once(brokered: Ledger) -> None:
    webhook_queue = WebhookQueue(brokered.store)
    submit(brokered)
    assert not webhook_queue.claim_try("a", 0)  # the job has not ended
    brokered.cancel("a")
    webhook_queue.dispatch_due()
    claims = [webhook_queue.claim_try("a", number) for number in (1, 0, 0, 1, 0)]
    assert claims == [False, True, False, True, False]
    webhook_queue.remove(brokered.get("a"), "delivered")
    assert not webhook_queue.claim_try("a", 2)
    webhook_queue.postpone(brokered.get("a"), 1)
    assert due(brokered) == {}  # a removed delivery stays removed
    assert in_flight(brokered) == set()


def test_postponed_try_is_dispatched_when_due(brokered: Ledger) -> None:
    webhook_queue = WebhookQueue(brokered.store)
    brokered.cancel(submit(brokered))
    webhook_queue.dispatch_due()
    assert received(brokered) == [("a", 0)]
    webhook_queue.postpone(brokered.get("a"), 1000)
    assert now(brokered) + 990 < due(brokered)["a"] < now(brokered) + 1010
    assert in_flight(brokered) == set()
    webhook_queue.dispatch_due()
    assert messages(brokered) == 0
    make_due(brokered)
    webhook_queue.dispatch_due()
    assert received(brokered) == [("a", 0)]


def test_forgotten_job_has_no_delivery(brokered: Ledger) -> None:
    for dispatched in (False, True):
        brokered.cancel(submit(brokered))
        if dispatched:
            WebhookQueue(brokered.store).dispatch_due()
        brokered.forget("a")
        assert (due(brokered), in_flight(brokered)) == ({}, set())


def test_dispatch_due_drops_job_without_record(brokered: Ledger) -> None:
    for job_id in ("a", "b"):
        brokered.cancel(submit(brokered, job_id))
    brokered.store.client.delete(brokered.store.channel("a") + ":record")
    WebhookQueue(brokered.store).dispatch_due()
    brokered.store.client.delete(brokered.store.channel("b") + ":record")
    assert received(brokered) == [("b", 0)]
    make_due(brokered)
    WebhookQueue(brokered.store).dispatch_due()
    assert (due(brokered), messages(brokered)) == ({}, 0)
    assert not brokered.store.client.exists(brokered.store.key("webhooks", "turns"))


def test_dispatch_due_limits_tries_of_one_host(brokered: Ledger) -> None:
    end(brokered, "key1", HOST_AT_ONCE + 1, "hangs.example")
    end(brokered, "key1", 1, "answers.example")
    WebhookQueue(brokered.store).dispatch_due()
    hosts = Counter(job_id.split("-")[1] for job_id, _ in received(brokered))
    assert hosts == {"hangs.example": HOST_AT_ONCE, "answers.example": 1}


def test_dispatch_due_limits_tries_of_one_owner(brokered: Ledger) -> None:
    webhook_queue = WebhookQueue(brokered.store)
    end(brokered, "key1", OWNER_AT_ONCE + 2)
    webhook_queue.dispatch_due()
    first = received(brokered)
    assert len(first) == OWNER_AT_ONCE
    webhook_queue.remove(brokered.get(first[0][0]), "given_up")  # its try is over
    webhook_queue.dispatch_due()
    assert len(received(brokered)) == 1


def owners(tries: list[tuple[str, int]]) -> Counter[str]:
    return Counter(job_id.split("-")[0] for job_id, _ in tries)


def test_dispatch_due_leaves_room_for_other_owners(brokered: Ledger) -> None:
    for number in range(8):
        end(brokered, f"flood{number}", OWNER_AT_ONCE)
    WebhookQueue(brokered.store).dispatch_due()
    counts = owners(received(brokered))
    assert AT_ONCE / 2 < counts.total() < AT_ONCE
    assert max(counts.values()) - min(counts.values()) <= 1  # they took turns
    end(brokered, "small", 1)
    WebhookQueue(brokered.store).dispatch_due()
    assert received(brokered) == [("small--0", 0)]


def test_dispatch_due_gives_next_turn_to_owner_without_try(brokered: Ledger) -> None:
    webhook_queue = WebhookQueue(brokered.store)
    for number in range(AT_ONCE + 1):
        end(brokered, f"flood{number}", 2)
    webhook_queue.dispatch_due()
    tries = received(brokered)
    assert len(owners(tries)) == len(tries) == AT_ONCE
    webhook_queue.remove(brokered.get(tries[0][0]), "given_up")  # this try is over
    webhook_queue.dispatch_due()
    assert owners(received(brokered)).keys().isdisjoint(owners(tries))


def test_dispatch_due_sends_nothing_more_without_a_sender(brokered: Ledger) -> None:
    end(brokered, "key1", 2 * AT_ONCE)
    for _ in range(10):
        WebhookQueue(brokered.store).dispatch_due()
        make_due(brokered, "key1")
    assert messages(brokered) == OWNER_AT_ONCE


def test_dispatch_due_gives_up_webhooks_beyond_limit(brokered: Ledger) -> None:
    brokered.store.settings = brokered.store.settings.replace(webhook_max_due=3)
    webhook_queue = WebhookQueue(brokered.store)
    end(brokered, "key1", 2, "fails.example")
    end(brokered, "key2", 3)
    webhook_queue.dispatch_due()
    webhook_queue.postpone(brokered.get("key1-fails.example-0"), 1000)
    webhook_queue.postpone(brokered.get("key1-fails.example-1"), 2000)
    end(brokered, "key1", 2, "answers.example")
    webhook_queue.dispatch_due()
    assert due(brokered, "key1").keys() == {
        "key1-fails.example-0",
        "key1-answers.example-0",
        "key1-answers.example-1",
    }
    assert outcomes(brokered) == {"retried": 2, "dropped": 1}
    assert len(due(brokered, "key2")) == 3  # another key has a limit of its own


def test_each_try_counts_its_outcome_once(brokered: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that is repeated after a lost reply has the same arguments."""
    webhook_queue = WebhookQueue(brokered.store)
    for job_id in ("a", "b"):
        brokered.cancel(submit(brokered, job_id))
    webhook_queue.dispatch_due()
    a, b = brokered.get("a"), brokered.get("b")
    at = brokered.store.clock.read()
    monkeypatch.setattr(brokered.store.clock, "read", lambda: at)
    for _ in range(2):
        webhook_queue.postpone(a, 1)
    assert outcomes(brokered) == {"retried": 1}
    for _ in range(2):
        webhook_queue.remove(a, "delivered")
        webhook_queue.remove(b, "given_up")
    webhook_queue.postpone(a, 2)  # a try that counted as lost has ended after all
    assert outcomes(brokered) == {"retried": 1, "delivered": 1, "given_up": 1}


def test_dispatch_due_keeps_time_of_older_versions(brokered: Ledger) -> None:
    """Older versions kept all undelivered webhooks in the set of new ones."""
    brokered.cancel(submit(brokered))
    brokered.store.client.zadd(brokered.store.key("webhooks"), {"a": now(brokered) + 1000})
    WebhookQueue(brokered.store).dispatch_due()
    assert messages(brokered) == 0
    make_due(brokered)
    WebhookQueue(brokered.store).dispatch_due()
    assert received(brokered) == [("a", 0)]
