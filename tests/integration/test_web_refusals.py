import json
from contextlib import closing
from http.client import HTTPConnection
from typing import Any

import pytest

from tests.support.webstack import CHAT, CONTEXT_LENGTH, HELLO, TIMEOUT_S, Web, refused, upload
from worker.jobs.events import Succeeded
from worker.jobs.records import ModelCard

USER = {"role": "user", "content": "Hi"}
PROMPT = "<user>"

#: Of this module's server.
SETTINGS = {"max_waiting": 2}


@pytest.mark.parametrize(
    ("field", "body"),
    [
        ("messages", {}),
        ("messages", {"messages": []}),
        ("messages", {"messages": "Hi"}),
        ("messages", {"messages": None}),
        ("messages.0.role", {"messages": [{"role": "wizard", "content": "Hi"}]}),
        ("messages.0.content", {"messages": [{"role": "user"}]}),
        ("messages.0.content", {"messages": [{"role": "user", "content": 7}]}),
        ("messages.0.content", {"messages": [{"role": "user", "content": "\ud800"}]}),
        ("messages.0.name", {"messages": [USER | {"name": "Bob"}]}),
        ("messages", {"messages": [{"role": "user", "content": "x" * CONTEXT_LENGTH}]}),
        ("max_tokens", HELLO | {"max_tokens": 0}),
        ("max_tokens", HELLO | {"max_tokens": 1.5}),
        ("max_tokens", HELLO | {"max_tokens": "9"}),
        ("temperature", HELLO | {"temperature": -0.1}),
        ("temperature", HELLO | {"temperature": float("nan")}),
        ("top_p", HELLO | {"top_p": 0}),
        ("seed", HELLO | {"seed": 2**63}),
        ("stop", HELLO | {"stop": ["a"] * 5}),
        ("stop.0", HELLO | {"stop": ""}),
        ("timeout_s", HELLO | {"timeout_s": 0}),
        ("timeout_s", HELLO | {"timeout_s": float("inf")}),
        ("max_queue_s", HELLO | {"max_queue_s": -1}),
        ("model", HELLO | {"model": "gpt"}),
        ("model", HELLO | {"model": "matte"}),
        ("max_new_tokens", HELLO | {"max_new_tokens": 3}),
        ("body", [HELLO]),
        ("body", "Hi"),
        ("body", None),
    ],
)
def test_a_bad_chat_is_refused_by_field(web: Web, field: str, body: Any) -> None:
    headers = {"Content-Type": "application/json"}
    response = web.http.post("/v1/jobs/chat", content=json.dumps(body), headers=headers)
    refused(web, response, 422, field)


def test_the_refusal_of_a_long_prompt_names_both_numbers(web: Web) -> None:
    fits = "x" * (CONTEXT_LENGTH - len(PROMPT) - 1)
    response = web.http.post("/v1/jobs/chat", json={"messages": [USER | {"content": fits + "x"}]})
    detail = refused(web, response, 422, "messages")
    assert f"{CONTEXT_LENGTH} tokens" in detail
    assert f"context of {CONTEXT_LENGTH}" in detail
    web.submit(messages=[USER | {"content": fits}])


def test_a_prompt_that_no_tokens_make_short_enough_is_not_counted(web: Web) -> None:
    response = web.http.post("/v1/jobs/chat", json={"messages": [USER | {"content": "x" * 2**20}]})
    assert "at least" in refused(web, response, 422, "messages")


@pytest.mark.parametrize(
    ("status", "content", "kind"),
    [
        (400, b"{", "application/json"),
        (400, b"", "application/json"),
        (400, b'{"messages": "\xff"}', "application/json"),
        (400, b"[" * 100_000, "application/json"),
        (415, b"messages=Hi", "application/x-www-form-urlencoded"),
        (415, b"{}", "text/plain"),
    ],
)
def test_a_body_that_is_no_json_is_refused(web: Web, status: int, content: bytes, kind: str) -> None:
    response = web.http.post("/v1/jobs/chat", content=content, headers={"Content-Type": kind})
    refused(web, response, status)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/v1/jobs/chat", "application/json"),
        ("/v1/chat/completions", "application/json"),
        ("/v1/jobs/video", "multipart/form-data; boundary=b"),
    ],
)
def test_a_body_of_broken_chunks_is_refused(web: Web, path: str, kind: str) -> None:
    url = web.http.base_url
    with closing(HTTPConnection(url.host, url.port, timeout=TIMEOUT_S)) as connection:
        headers = {"Content-Type": kind, "Transfer-Encoding": "chunked"}
        connection.request("POST", path, b"no size\r\n", headers)
        assert connection.getresponse().status == 400
    assert web.nothing_happened()


def test_a_conversation_that_is_no_text_but_a_dump_is_refused(web: Web) -> None:
    response = web.http.post("/v1/jobs/chat", json=HELLO | {"model": "x" * (17 * 2**20)})
    refused(web, response, 413, "body")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("GET", "/v1/jobs/nobody", 404, "not_found"),
        ("GET", "/v1/jobs/nobody/result", 404, "not_found"),
        ("GET", "/v1/jobs/nobody/memory", 404, "not_found"),
        ("POST", "/v1/jobs/nobody/cancel", 404, "not_found"),
        ("DELETE", "/v1/jobs/..%2f..", 404, "not_found"),
        ("PUT", "/v1/jobs/chat", 405, "method_not_allowed"),
    ],
)
def test_what_is_not_there_is_a_problem_too(web: Web, method: str, path: str, status: int, code: str) -> None:
    response = web.http.request(method, path)
    refused(web, response, status)
    assert response.json()["code"] == code
    assert ("Allow" in response.headers) == (status == 405)


def test_a_full_queue_says_when_to_come_back(web: Web, clip: bytes) -> None:
    web.ready_worker("chat", slots=1)
    done = web.submit()
    web.worker.claim(done)
    web.worker.append(done, Succeeded({}, {}))
    web.ledger.redis.hset(web.ledger.key("service"), CHAT, 30)
    for _ in range(2):
        web.submit()
    response = web.http.post("/v1/jobs/chat", json=HELLO)
    assert (response.status_code, response.json()["code"]) == (429, "queue_full")
    assert response.headers["Retry-After"] == "30"
    assert len(web.ledger.page()) == 3
    for expected in (202, 202, 429):
        assert upload(web, clip).status_code == expected
    assert len(list(web.settings.media_dir.iterdir())) == 2
    assert len(web.ledger.page(kind="video")) == 2


def test_without_a_model_the_service_is_not_ready(web: Web, clip: bytes) -> None:
    web.ledger.redis.delete(web.ledger.key("models"))
    for response in (web.http.post("/v1/jobs/chat", json=HELLO), upload(web, clip)):
        refused(web, response, 503)
        assert int(response.headers["Retry-After"]) > 0


def test_several_models_and_none_is_the_default(web: Web) -> None:
    web.registry.publish_model(ModelCard("other", "chat", "chat.other", CONTEXT_LENGTH))
    detail = refused(web, web.http.post("/v1/jobs/chat", json=HELLO), 422, "model")
    assert "other, tiny" in detail
    refused(web, web.http.post("/v1/jobs/chat", json=HELLO | {"model": "other"}), 503)
    web.submit(model="tiny")


@pytest.mark.parametrize(
    "url", ["x", "http://127.0.0.1/", "https://0x7f.1/", "http://localhost/", "http://u:p@a.com/"]
)
def test_a_webhook_that_leads_to_us_is_refused(web: Web, url: str) -> None:
    refused(web, web.http.post("/v1/jobs/chat", json=HELLO | {"webhook_url": url}), 422, "webhook_url")
