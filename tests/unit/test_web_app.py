import json
import logging
import os
import uuid
from typing import Any

import gevent
import pytest
from flask import Flask
from flask.testing import FlaskClient
from kombu.exceptions import OperationalError
from pydantic import ValidationError
from redis.exceptions import ResponseError

from tests.support.webstack import CHAT, HELLO, tiny_template
from webapi.app import create_app
from webapi.http.problems import STATUS
from webapi.openai.schema import ChatCompletionRequest
from webapi.services.feed import Inbox
from webapi.services.warmup import ApiWarmUp
from worker.jobs import errors
from worker.jobs.dispatch import dispatcher
from worker.jobs.events import LoggedEvent
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.ledger.registry import Registry
from worker.jobs.records import ModelCard, WorkerCard
from worker.jobs.settings import Settings
from worker.jobs.specs import ChatJob, Message


@pytest.fixture
def app(settings: Settings) -> Flask:
    return create_app(settings)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


def raising(app: Flask, error: Exception) -> FlaskClient:
    def route() -> str:
        raise error

    app.add_url_rule("/raise", view_func=route)
    return app.test_client()


def test_an_unexpected_error_is_logged_not_told(app: Flask, caplog: pytest.LogCaptureFixture) -> None:
    response = raising(app, RuntimeError("secret")).get("/raise")
    assert (response.status_code, response.content_type) == (500, "application/problem+json")
    assert "secret" not in response.text
    assert response.get_json()["code"] == "internal_error"
    assert "RuntimeError: secret" in caplog.text


@pytest.mark.parametrize(
    ("error", "status", "retry_after"),
    [
        (errors.InvalidInput("file", "no"), 422, None),
        (errors.TooLarge("file", "no"), 413, None),
        (errors.JobNotFound("no"), 404, None),
        (errors.JobConflict("no"), 409, None),
        (errors.QueueFull("no", retry_after_s=7), 429, "7"),
        (errors.NotReady("no"), 503, "5"),
        (errors.EngineFailed("no"), 500, None),
        (ResponseError("OOM"), 503, "5"),
    ],
)
def test_each_error_has_its_status(
    app: Flask, error: Exception, status: int, retry_after: str | None
) -> None:
    response = raising(app, error).get("/raise")
    assert (response.status_code, response.get_json()["status"]) == (status, status)
    assert response.headers.get("Retry-After") == retry_after


def test_the_table_has_subclasses_before_their_parents() -> None:
    seen: list[type[errors.StokerError]] = []
    for kind in STATUS:
        assert not issubclass(kind, tuple(seen))
        seen.append(kind)


def test_a_job_whose_hint_is_lost_is_accepted(
    client: FlaskClient, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(*_: str) -> None:
        raise OperationalError("no broker")

    monkeypatch.setattr(dispatcher, "send_message", away)
    registry = Registry(ledger)
    registry.publish_model(ModelCard("tiny", "chat", CHAT, 64), tiny_template().to_json())
    registry.renew(WorkerCard("w1", "chat", "host", 1, "cpu", "tiny", "fake", CHAT, 1, 0, state="ready"))
    with caplog.at_level(logging.INFO):
        response = client.post("/v1/jobs/chat", json=HELLO)
    job_id = response.get_json()["id"]
    assert response.status_code == 202
    assert ledger.get(job_id).state == "queued"
    assert f"job {job_id}: chat submitted to {CHAT}" in caplog.text
    assert f"job {job_id}: its hint was not sent" in caplog.text


def test_a_model_that_is_named_is_known_without_a_look_at_redis(brokered: Ledger) -> None:
    app = create_app(brokered.settings)
    Registry(brokered).publish_model(ModelCard("tiny", "chat", CHAT, 64), tiny_template().to_json())
    ApiWarmUp(app.extensions["stoker"]).refresh()
    brokered.redis.delete(brokered.key("models"))
    asked = [app.test_client().post("/v1/jobs/chat", json=HELLO | {"model": name}) for name in ("tiny", "x")]
    assert [response.status_code for response in asked] == [202, 503]


def test_no_threads_are_woken_to_count_a_prompt(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOKENIZERS_PARALLELISM", raising=False)
    create_app(settings)
    assert os.environ["TOKENIZERS_PARALLELISM"] == "false"


@pytest.mark.parametrize("schema", [ChatJob, ChatCompletionRequest])
@pytest.mark.parametrize("messages", [["Hi"] * 9, [{"role": "user", "content": [7] * 9}]])
def test_a_bad_conversation_is_told_by_its_first_fault(
    schema: type[ChatJob | ChatCompletionRequest], messages: list[Any]
) -> None:
    with pytest.raises(ValidationError) as caught:
        schema.model_validate({"messages": messages})
    assert caught.value.error_count() == 1  # millions would hold up the whole API


def test_a_prompt_template_is_parsed_again_only_when_it_changes(ledger: Ledger) -> None:
    from webapi.services.token_counter import TokenCounter

    registry, messages = Registry(ledger), [Message(role="user", content="Hi")]
    prompts = TokenCounter(registry)
    card = ModelCard("tiny", "chat", CHAT, 64, digest="1")
    registry.publish_model(card, tiny_template().to_json())
    assert prompts.count(card, messages) == len("<user>Hi")
    changed = tiny_template().to_json().replace("<{{", "<<{{")
    registry.publish_model(card, changed)
    assert prompts.count(card, messages) == len("<user>Hi")
    assert prompts.count(ModelCard("tiny", "chat", CHAT, 64, digest="2"), messages) == len("<<user>Hi")


@pytest.mark.parametrize("contents", [["H" * 5000], [""] * 5000])
def test_while_a_long_prompt_is_counted_other_requests_go_on(ledger: Ledger, contents: list[str]) -> None:
    from webapi.services.token_counter import TokenCounter

    registry, card = Registry(ledger), ModelCard("tiny", "chat", CHAT, 64, digest="1")
    registry.publish_model(card, tiny_template().to_json())
    other = gevent.spawn(lambda: None)
    TokenCounter(registry).count(card, [Message(role="user", content=content) for content in contents])
    assert other.ready()


def test_a_full_inbox_ends_in_one_hint_to_read_the_log() -> None:
    inbox = Inbox()
    event = LoggedEvent.parse(json.dumps({"n": 1, "type": "token", "text": uuid.uuid4().hex}))
    for _ in range(2 * Inbox.LIMIT):
        inbox.put(event)
    assert [inbox.get(0.01) for _ in range(Inbox.LIMIT)] == [event] * Inbox.LIMIT
    inbox.put(event)
    assert [inbox.get(0.01) for _ in range(2)] == [None, event]
    with pytest.raises(TimeoutError):
        inbox.get(0.01)
