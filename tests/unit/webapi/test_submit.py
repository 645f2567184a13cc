"""Submission: log lines, known models, and validation that ends early."""

import logging
from io import BytesIO
from typing import Any

import pytest
from flask.testing import FlaskClient
from pydantic import ValidationError

from tests.support.web.webstack import CHAT, HELLO, tiny_template
from webapi.app import create_app
from webapi.services.warmup import ApiWarmUp
from worker.jobs.broker import messages_key
from worker.jobs.cards import ModelCard, WorkerCard
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.ledger.registry import Registry
from worker.jobs.settings import Settings
from worker.jobs.specs import ChatJob


@pytest.fixture
def client(settings: Settings) -> FlaskClient:
    return create_app(settings).test_client()


def test_submit_logs_the_job_and_needs_no_connection_of_celery(
    client: FlaskClient, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    registry = Registry(ledger.store)
    registry.publish_model(ModelCard("tiny", "chat", CHAT, 64), tiny_template().to_json())
    registry.renew(WorkerCard("w1", "chat", "host", 1, "cpu", "tiny", "fake", CHAT, 1, 0, state="ready"))
    with caplog.at_level(logging.INFO):
        response = client.post("/v1/jobs/chat", json=HELLO)
    job_id = response.get_json()["id"]
    assert response.status_code == 202
    assert ledger.get(job_id).state == "queued"
    messages = messages_key(ledger.store.settings, CHAT)
    assert ledger.store.client.llen(messages) == 1
    assert not ledger.store.client.exists(ledger.store.key("celery", "connected"))  # Celery is not needed
    assert f'"job": "{job_id}", "queue": "{CHAT}"' in caplog.text


def test_submit_finds_a_named_model_without_redis(brokered: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ApiWarmUp, "start", lambda self: None)  # its thread would see that the model is gone
    app = create_app(brokered.store.settings)
    Registry(brokered.store).publish_model(ModelCard("tiny", "chat", CHAT, 64), tiny_template().to_json())
    ApiWarmUp(app.extensions["stoker"]).refresh()
    brokered.store.client.delete(brokered.store.key("models"))
    asked = [app.test_client().post("/v1/jobs/chat", json=HELLO | {"model": name}) for name in ("tiny", "x")]
    assert [response.status_code for response in asked] == [202, 503]


def test_submit_refuses_a_clip_without_room_before_it_receives_it(brokered: Ledger) -> None:
    Registry(brokered.store).publish_model(ModelCard("clips", "video", "video.clips"))
    answers = []
    for max_bytes in (10_000, 1000):
        client = create_app(brokered.store.settings.replace(max_kept_file_bytes=max_bytes)).test_client()
        answers.append(client.post("/v1/jobs/video", data={"file": (BytesIO(bytes(5000)), "clip")}))
    assert [answer.status_code for answer in answers] == [422, 429]  # a received one is found to be no clip
    assert answers[1].get_json()["code"] == "storage_full"


@pytest.mark.parametrize("messages", [["Hi"] * 9, [{"role": "user", "content": [7] * 9}]])
def test_submit_validation_stops_at_the_first_bad_message(messages: list[Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        ChatJob.model_validate({"messages": messages})
    assert caught.value.error_count() == 1  # a million errors would block the whole API
