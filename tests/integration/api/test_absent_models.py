"""A model whose last worker has left: it is in no list, and its jobs wait only if they say so."""

from itertools import islice
from typing import Any

import pytest

from tests.support.stack import eventually
from tests.support.web.webstack import CHAT, HELLO, VIDEO, Web, upload
from worker.jobs.cards import ModelCard

#: Settings of this module's server.
SETTINGS = {"stream_silence_s": 0.1, "heartbeat_s": 3600.0}


@pytest.fixture(autouse=True)
def absent(web: Web) -> None:
    """Let the workers of all models have left long ago, and wait until the API knows."""
    leave(web)


def leave(web: Web) -> None:
    """Make all models ones that were last seen long ago. The API looks once a second."""
    web.ledger.store.client.zadd(web.ledger.store.key("models", "seen"), {CHAT: 1, VIDEO: 1})
    # As long as the model is available, the URL is what is wrong.
    refused: dict[str, Any] = {"model": "tiny", "webhook_url": "x"}
    eventually(lambda: submit(web, **refused).status_code == 503, "the API to notice")


def submit(web: Web, headers: dict[str, str] | None = None, **changes: Any) -> Any:
    return web.http.post("/v1/jobs/chat", json=HELLO | changes, headers=headers)


def test_absent_model_is_in_no_list(web: Web) -> None:
    assert web.http.get("/v1/models").json()["data"] == []
    assert web.http.get("/v1/models/tiny").status_code == 404
    assert web.http.get("/v1/queues").json() == {"queues": []}
    web.registry.publish_model(ModelCard("other", "chat", "chat.other", 64))
    assert [model["id"] for model in web.http.get("/v1/models").json()["data"]] == ["other"]
    assert submit(web, model="none").json()["detail"].endswith("the chat models here are: other")


@pytest.mark.parametrize("name", ["tiny", None])
def test_absent_model_refuses_requests_with_503(web: Web, clip: bytes, name: str | None) -> None:
    named: dict[str, Any] = {"model": name} if name else {}
    for response in (submit(web, **named), upload(web, clip)):
        assert (response.status_code, response.json()["code"]) == (503, "model_unavailable")
        assert int(response.headers["Retry-After"]) > 0
        assert "max_queue_s" in response.json()["detail"]
    for stream in (False, True):
        response = web.http.post("/v1/chat/completions", json=HELLO | named | {"stream": stream})
        assert (response.status_code, response.json()["error"]["code"]) == (503, "model_unavailable")
        assert int(response.headers["Retry-After"]) > 0
    assert web.is_untouched()


def test_absent_model_lets_jobs_wait_that_say_so(web: Web) -> None:
    first = submit(web, max_queue_s=60).json()
    assert (first["state"], first["queue_position"]) == ("queued", 1)
    body = HELLO | {"stream": True, "max_queue_s": 60}
    with web.http.stream("POST", "/v1/chat/completions", json=body) as response:
        assert next(response.iter_lines()) == ": queued, place 2"
    [queue] = web.http.get("/v1/queues").json()["queues"]
    assert queue["name"] == CHAT


def test_absent_model_keeps_queued_jobs_and_known_keys(web: Web) -> None:
    once = {"Idempotency-Key": "one"}
    job = submit(web, once, max_queue_s=60).json()
    assert submit(web, once, max_queue_s=60).json()["id"] == job["id"]
    web.ready_worker("chat")
    plain = {"Idempotency-Key": "two"}
    made = submit(web, plain).json()["id"]
    web.registry.release("chat1")
    leave(web)
    assert submit(web, plain).json()["id"] == made
    assert [web.ledger.get(each).state for each in (job["id"], made)] == ["queued", "queued"]


def test_absent_model_is_back_with_a_worker(web: Web) -> None:
    web.ready_worker("chat")
    assert [model["id"] for model in web.http.get("/v1/models").json()["data"]] == ["tiny"]
    assert submit(web).status_code == 202


def test_event_stream_of_a_waiting_job_has_comments_without_a_heartbeat(web: Web) -> None:
    job_id = submit(web, max_queue_s=3000).json()["id"]
    with web.http.stream("GET", f"/v1/jobs/{job_id}/events") as response:
        assert list(islice(response.iter_lines(), 7))[4:] == [": still here"] * 3
