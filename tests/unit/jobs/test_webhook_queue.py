"""The webhook queue: each terminal event of a job with a webhook makes one delivery due."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.ledger import lapse, pass_deadline
from worker.jobs import broker
from worker.jobs.broker import messages_key
from worker.jobs.dispatch.dispatcher import requeue
from worker.jobs.dispatch.recovery import Recovery
from worker.jobs.dispatch.webhook_queue import BACKLOG, LOST_S, QUEUE, WebhookQueue
from worker.jobs.events import Canceled, Failed, Succeeded
from worker.jobs.ledger.appends import Append, Ended
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.specs import validate

CHAT, WORKER = "chat.test", "w1"
URL = "https://example.com/hook"


def submit(ledger: Ledger, job_id: str = "a", **changes: Any) -> str:
    body = {"messages": [{"role": "user", "content": "Hi"}], "webhook_url": URL, **changes}
    ledger.submit(job_id, CHAT, validate("chat", body))
    return job_id


def run(ledger: Ledger, job_id: str = "a") -> None:
    assert ledger.claim(job_id, WORKER, "cpu") is not None


def appending(event: Any) -> Callable[[Ledger], None]:
    def append(ledger: Ledger) -> None:
        run(ledger)
        assert ledger.append([Append("a", 1, 3, [event], {})]) == [Ended([])]

    return append


def canceled_while_queued(ledger: Ledger) -> None:
    assert ledger.cancel("a") == "canceled"


def canceled_while_running(ledger: Ledger) -> None:
    run(ledger)
    assert ledger.cancel("a") == "running"
    assert ledger.append([Append("a", 1, 3, [Canceled()], {})]) == [Ended([])]


def canceled_and_worker_lost(ledger: Ledger) -> None:
    run(ledger)
    ledger.cancel("a")
    lapse(ledger, WORKER)
    requeue(ledger, "a", WORKER, "worker_lost")


def overdue(ledger: Ledger) -> None:
    pass_deadline(ledger, "a")
    assert ledger.end_overdue() == ["a"]


def overdue_while_running(ledger: Ledger) -> None:
    run(ledger)
    overdue(ledger)


def lost_max_attempts_times(ledger: Ledger) -> None:
    for _ in range(ledger.settings.max_attempts):
        assert ledger.claim("a", WORKER, "cpu", exclusive=True) is not None
        lapse(ledger, WORKER)
        requeue(ledger, "a", WORKER, "worker_lost")


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


def due(ledger: Ledger) -> dict[str, float]:
    entries: Any = ledger.redis.zrange(ledger.key("webhooks"), 0, -1, withscores=True)
    return dict(entries)


def now(ledger: Ledger) -> float:
    return float(ledger.redis.time()[0] + 1)


def messages(ledger: Ledger) -> int:
    return ledger.redis.llen(messages_key(ledger.settings, QUEUE))


def received(ledger: Ledger) -> list[tuple[str, int]]:
    """Receive all waiting messages. Return the job and the number of earlier tries of each."""
    found = []
    with broker.app.connection_for_read() as connection, connection.SimpleQueue(QUEUE) as queue:
        for _ in range(messages(ledger)):
            message = queue.get(timeout=5)
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
    requeue(brokered, "a", WORKER, "worker_lost")
    assert (brokered.get("a").state, due(brokered)) == ("queued", {})


def test_recovery_sends_one_message_until_it_must_be_lost(brokered: Ledger) -> None:
    webhook_queue = WebhookQueue(brokered)
    brokered.cancel(submit(brokered))
    Recovery(brokered).run_jobs_round()
    assert received(brokered) == [("a", 0)]
    assert due(brokered)["a"] > now(brokered) + LOST_S / 2
    webhook_queue.dispatch_due(now(brokered))
    assert messages(brokered) == 0
    assert webhook_queue.claim_try("a", 0)  # a sender began this try and died
    webhook_queue.dispatch_due(now(brokered) + LOST_S + 1)
    assert received(brokered) == [("a", 1)]  # the next message counts that try


def test_claim_try_succeeds_once(brokered: Ledger) -> None:
    webhook_queue = WebhookQueue(brokered)
    submit(brokered)
    assert not webhook_queue.claim_try("a", 0)  # the job has not ended
    brokered.cancel("a")
    assert [webhook_queue.claim_try("a", number) for number in (1, 0, 0, 1, 0)] == [
        False,
        True,
        False,
        True,
        False,
    ]
    webhook_queue.remove("a")
    assert not webhook_queue.claim_try("a", 2)
    webhook_queue.postpone("a", 1, retried=False)
    assert due(brokered) == {}  # a removed delivery stays removed


def test_postponed_try_is_dispatched_when_due(brokered: Ledger) -> None:
    webhook_queue = WebhookQueue(brokered)
    brokered.cancel(submit(brokered))
    for retried, extra_s in ((False, 0.0), (True, LOST_S)):  # Celery's own retry comes first
        webhook_queue.postpone("a", 1000, retried=retried)
        webhook_queue.dispatch_due(now(brokered) + 990 + extra_s)
        assert messages(brokered) == 0
        webhook_queue.dispatch_due(now(brokered) + 1010 + extra_s)
        assert received(brokered) == [("a", 0)]


def test_forgotten_job_has_no_delivery(brokered: Ledger) -> None:
    brokered.cancel(submit(brokered))
    brokered.forget("a")
    assert due(brokered) == {}


def test_dispatch_due_drops_job_without_record(brokered: Ledger) -> None:
    brokered.cancel(submit(brokered))
    brokered.redis.delete(brokered.channel("a") + ":record")
    WebhookQueue(brokered).dispatch_due(now(brokered))
    assert (due(brokered), messages(brokered)) == ({}, 0)


def test_dispatch_due_limits_backlog(brokered: Ledger) -> None:
    webhook_queue = WebhookQueue(brokered)
    for number in range(BACKLOG + 1):
        brokered.cancel(submit(brokered, f"job{number}"))
    for minute in range(5):
        webhook_queue.dispatch_due(now(brokered) + minute * 2 * LOST_S)
    assert messages(brokered) == BACKLOG
    assert len(due(brokered)) == BACKLOG + 1
