"""What the ledger does for webhooks: every ending of a job that has one leaves one delivery that is due."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import lapse
from worker.jobs import broker
from worker.jobs.broker import messages_key
from worker.jobs.dispatch.recovery import Recovery, requeue
from worker.jobs.dispatch.webhook_queue import BACKLOG, LOST_S, QUEUE, WebhookQueue
from worker.jobs.events import Canceled, Failed, Succeeded
from worker.jobs.ledger.appends import Append, Ended
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.specs import validate

CHAT, W = "chat.test", "w1"
URL = "https://example.com/hook"


def submit(ledger: Ledger, job_id: str = "a", **changes: Any) -> str:
    body = {"messages": [{"role": "user", "content": "Hi"}], "webhook_url": URL, **changes}
    ledger.submit(job_id, CHAT, validate("chat", body))
    return job_id


def running(ledger: Ledger, job_id: str = "a") -> None:
    assert ledger.claim(job_id, W, "cpu") is not None


def ends(event: Any) -> Callable[[Ledger], None]:
    def end(ledger: Ledger) -> None:
        running(ledger)
        assert ledger.append([Append("a", 1, 3, [event], {})]) == [Ended([])]

    return end


def canceled_while_queued(ledger: Ledger) -> None:
    assert ledger.cancel("a") == "canceled"


def canceled_while_running(ledger: Ledger) -> None:
    running(ledger)
    assert ledger.cancel("a") == "running"
    assert ledger.append([Append("a", 1, 3, [Canceled()], {})]) == [Ended([])]


def canceled_and_its_worker_is_lost(ledger: Ledger) -> None:
    running(ledger)
    ledger.cancel("a")
    lapse(ledger, W)
    requeue(ledger, "a", W, "worker_lost")


def overdue(ledger: Ledger) -> None:
    ledger.redis.zadd(ledger.key("deadlines"), {"a": 0})
    assert ledger.end_overdue() == ["a"]


def overdue_while_running(ledger: Ledger) -> None:
    running(ledger)
    overdue(ledger)


def lost_for_good(ledger: Ledger) -> None:
    for _ in range(ledger.settings.max_attempts):
        assert ledger.claim("a", W, "cpu", exclusive=True) is not None
        lapse(ledger, W)
        requeue(ledger, "a", W, "worker_lost")


ENDINGS: dict[str, tuple[Callable[[Ledger], None], str, str | None]] = {
    "succeeded": (ends(Succeeded({}, {})), "succeeded", None),
    "failed": (ends(Failed("engine_failed", "no")), "failed", None),
    "canceled while queued": (canceled_while_queued, "canceled", None),
    "canceled while running": (canceled_while_running, "canceled", None),
    "canceled without its worker": (canceled_and_its_worker_is_lost, "canceled", None),
    "expired": (overdue, "failed", "expired"),
    "timeout": (overdue_while_running, "failed", "timeout"),
    "worker_lost": (lost_for_good, "failed", "worker_lost"),
}


def due(ledger: Ledger) -> dict[str, float]:
    entries: Any = ledger.redis.zrange(ledger.key("webhooks"), 0, -1, withscores=True)
    return dict(entries)


def now(ledger: Ledger) -> float:
    return float(ledger.redis.time()[0] + 1)


def messages(ledger: Ledger) -> int:
    return ledger.redis.llen(messages_key(ledger.settings, QUEUE))


def taken(ledger: Ledger) -> list[tuple[str, int]]:
    """The job and the number of earlier tries in each message that waits."""
    found = []
    with broker.app.connection_for_read() as connection, connection.SimpleQueue(QUEUE) as queue:
        for _ in range(messages(ledger)):
            message = queue.get(timeout=5)
            message.ack()
            found.append((message.payload[0][0], int(message.headers["retries"])))
    return found


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_ending_leaves_one_delivery(brokered: Ledger, ending: str) -> None:
    end, state, code = ENDINGS[ending]
    submit(brokered)
    assert due(brokered) == {}
    end(brokered)
    record = brokered.get("a")
    assert (record.state, (record.error or {}).get("code") if code else None) == (state, code)
    assert list(due(brokered)) == ["a"]
    assert due(brokered)["a"] <= now(brokered)


def test_a_job_without_a_webhook_leaves_none(ledger: Ledger) -> None:
    submit(ledger, webhook_url=None)
    ledger.cancel("a")
    assert due(ledger) == {}


def test_a_requeued_job_has_not_ended(brokered: Ledger) -> None:
    submit(brokered)
    running(brokered)
    lapse(brokered, W)
    requeue(brokered, "a", W, "worker_lost")
    assert (brokered.get("a").state, due(brokered)) == ("queued", {})


def test_recoverys_tick_hints_once_until_the_hint_must_be_lost(brokered: Ledger) -> None:
    webhook_queue = WebhookQueue(brokered)
    brokered.cancel(submit(brokered))
    Recovery(brokered)._tick()
    assert taken(brokered) == [("a", 0)]
    assert due(brokered)["a"] > now(brokered) + LOST_S / 2
    webhook_queue.dispatch_due(now(brokered))
    assert messages(brokered) == 0
    assert webhook_queue.claim_try("a", 0)  # a worker began, and died
    webhook_queue.dispatch_due(now(brokered) + LOST_S + 1)
    assert taken(brokered) == [("a", 1)]  # the next hint knows of that try


def test_each_try_is_made_once(brokered: Ledger) -> None:
    webhook_queue = WebhookQueue(brokered)
    submit(brokered)
    assert not webhook_queue.claim_try("a", 0)  # it has not ended
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
    assert due(brokered) == {}  # what is done stays done


def test_a_try_that_is_put_off_is_hinted_at_when_it_is_due(brokered: Ledger) -> None:
    webhook_queue = WebhookQueue(brokered)
    brokered.cancel(submit(brokered))
    for retried, extra_s in ((False, 0.0), (True, LOST_S)):  # a retry of Celery's own comes first
        webhook_queue.postpone("a", 1000, retried=retried)
        webhook_queue.dispatch_due(now(brokered) + 990 + extra_s)
        assert messages(brokered) == 0
        webhook_queue.dispatch_due(now(brokered) + 1010 + extra_s)
        assert taken(brokered) == [("a", 0)]


def test_a_forgotten_job_is_not_delivered(brokered: Ledger) -> None:
    brokered.cancel(submit(brokered))
    brokered.forget("a")
    assert due(brokered) == {}


def test_a_record_that_redis_has_lost_leaves_the_set(brokered: Ledger) -> None:
    brokered.cancel(submit(brokered))
    brokered.redis.delete(brokered.channel("a") + ":record")
    WebhookQueue(brokered).dispatch_due(now(brokered))
    assert (due(brokered), messages(brokered)) == ({}, 0)


def test_messages_that_nobody_takes_do_not_pile_up(brokered: Ledger) -> None:
    webhook_queue = WebhookQueue(brokered)
    for number in range(BACKLOG + 1):
        brokered.cancel(submit(brokered, f"job{number}"))
    for minute in range(5):
        webhook_queue.dispatch_due(now(brokered) + minute * 2 * LOST_S)
    assert messages(brokered) == BACKLOG
    assert len(due(brokered)) == BACKLOG + 1
