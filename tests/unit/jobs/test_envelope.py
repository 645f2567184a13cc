"""The Celery messages that the ledger's scripts push: they are those that Celery itself would send."""

import json
from base64 import b64decode
from typing import Any

import pytest

from tests.support.ledger import card
from worker.jobs import broker
from worker.jobs.dispatch.webhook_limits import QUEUE as WEBHOOKS
from worker.jobs.dispatch.webhook_limits import TASK
from worker.jobs.dispatch.webhook_queue import WebhookQueue
from worker.jobs.kinds import task_of
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.ledger.queues import Queues
from worker.jobs.ledger.registry import Registry
from worker.jobs.records import Record
from worker.jobs.specs import ChatJob, JobSpec, VideoJob, validate

QUEUE = "chat.test"
#: Characters that mean something in patterns of Lua, in JSON or in the envelope, and some beyond ASCII.
AWKWARD = '%1 %% "q" \\ / @id@ é 漢\n'
JOB = "0123456789abcdef0123456789abcdef"


def chat(content: str = "Hi", **options: Any) -> JobSpec:
    return validate(ChatJob, {"messages": [{"role": "user", "content": content}], **options})


def pushed(ledger: Ledger, queue: str) -> list[dict[str, Any]]:
    """Return the messages of the queue, the newest first."""
    texts = ledger.store.client.lrange(broker.messages_key(ledger.store.settings, queue), 0, -1)
    return [json.loads(text) for text in texts]


def push(ledger: Ledger, job_id: str, queue: str, spec: JobSpec) -> dict[str, Any]:
    """Submit a job, push its message, and return that."""
    assert not ledger.submit(job_id, queue, spec).dispatched  # no worker serves the queue
    assert Queues(ledger.store).send_again(job_id)
    return pushed(ledger, queue)[0]


def comparable(message: dict[str, Any]) -> dict[str, Any]:
    """Return the message without what differs on purpose: its sender, and the encoding of its body."""
    assert message["properties"].pop("delivery_tag")
    message["headers"].pop("origin")
    message["properties"].pop("reply_to")
    if message["properties"].pop("body_encoding") == "base64":
        message["body"] = b64decode(message["body"]).decode()
    return message


@pytest.mark.parametrize("queue", [QUEUE, f"chat.{AWKWARD}", "video.model/with.dots"])
def test_message_is_that_of_celery(brokered: Ledger, queue: str) -> None:
    kind = queue.partition(".")[0]
    spec = chat() if kind == "chat" else validate(VideoJob, {"effect": "matte"})
    push(brokered, JOB, queue, spec)
    broker.app.send_task(task_of(kind), args=[JOB], task_id=JOB, queue=queue, ignore_result=True, retry=False)
    celerys, ours = pushed(brokered, queue)
    assert ours["headers"].pop("record")["queue"] == queue
    assert comparable(ours) == comparable(celerys)


def test_message_of_a_webhook_is_that_of_celery(brokered: Ledger) -> None:
    brokered.submit(JOB, QUEUE, chat(webhook_url="https://example.com/"))
    brokered.cancel(JOB)
    WebhookQueue(brokered.store).dispatch_due()
    task_id = f"{JOB}:0"
    broker.app.send_task(TASK, args=[JOB], task_id=task_id, queue=WEBHOOKS, ignore_result=True, retry=False)
    celerys, ours = pushed(brokered, WEBHOOKS)
    assert ours["headers"].pop("record") is None
    assert comparable(ours) == comparable(celerys)


def test_message_is_read_by_kombu(brokered: Ledger) -> None:
    push(brokered, JOB, QUEUE, chat(AWKWARD))
    with broker.app.connection_for_read() as connection, connection.SimpleQueue(QUEUE) as queue:
        message = queue.get(timeout=20)
    assert message.payload[:2] == [[JOB], {}]
    assert (message.headers["id"], message.headers["task"]) == (JOB, "stoker.chat")


def test_messages_have_tags_of_their_own(ledger: Ledger) -> None:
    tags = {push(ledger, job_id, QUEUE, chat())["properties"]["delivery_tag"] for job_id in ("a", "b")}
    Queues(ledger.store).send_again("a")
    assert len(tags | {pushed(ledger, QUEUE)[0]["properties"]["delivery_tag"]}) == 3


@pytest.mark.parametrize("job_id", ["a%1b", 'quote"d', "back\\slash"])
def test_message_names_a_job_with_any_id(ledger: Ledger, job_id: str) -> None:
    message = push(ledger, job_id, QUEUE, chat())
    assert json.loads(message["body"])[0] == [job_id]
    named = message["headers"]["id"], message["headers"]["root_id"], message["properties"]["correlation_id"]
    assert named == (job_id, job_id, job_id)


def test_message_carries_the_record(ledger: Ledger) -> None:
    Registry(ledger.store).renew(card("w1"))
    assert ledger.submit(JOB, QUEUE, chat(AWKWARD, n=2), owner="k1").dispatched == [JOB]
    [message] = pushed(ledger, QUEUE)
    record = message["headers"]["record"]
    assert record == ledger.store.client.hgetall(f"{ledger.store.channel(JOB)}:record")
    assert Record.from_hash(JOB, record).spec == chat(AWKWARD, n=2)


def test_message_of_a_long_spec_carries_no_record(ledger: Ledger) -> None:
    for length, carried in ((65_000, True), (66_000, False)):
        message = push(ledger, f"{length}", QUEUE, chat("x" * length))
        assert (message["headers"]["record"] is not None) == carried
