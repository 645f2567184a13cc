"""Tests of llama.cpp's protocol: chats that outlive their clients, and the routes that join them again."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from tests.support.stack import eventually
from tests.support.web.openai_clients import ANSWER, HI, answer_tokens, new_job, success_event
from tests.support.web.webstack import TIMEOUT_S, Web
from webapi.keys.keys import Keys
from worker.jobs.events import Failed, Token

USAGE: dict[str, Any] = {"stream_options": {"include_usage": True}}


def begin(web: Web, name: str | bytes, owner: str = "", **body: Any) -> str:
    """Request an answer in a conversation, read its first token, and disconnect. Return the job's id."""
    request = {"messages": HI, "stream": True} | body
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(1))
        client = stack.enter_context(httpx.Client(base_url=web.http.base_url, timeout=TIMEOUT_S))
        client.headers.update(web.http.headers)
        headers = {b"X-Conversation-Id": name if isinstance(name, bytes) else name.encode()}
        opened = client.stream("POST", "/v1/chat/completions", json=request, headers=headers)
        future = pool.submit(stack.enter_context, opened)
        job_id = new_job(web, future, owner)
        web.worker.claim(job_id)
        web.worker.append(job_id, answer_tokens()[0])
        response = future.result(TIMEOUT_S)
        assert response.headers["X-Stoker-Job"] == job_id
        assert '"content":"Hel"' in next(response.iter_text())
    return job_id


def finish(web: Web, job_id: str) -> None:
    success = success_event()
    web.worker.append(job_id, *answer_tokens()[1:], success, usage=success.usage, result=success.result)


def stream_of(web: Web, name: str, start: int = 0) -> str:
    response = web.http.get(f"/v1/stream/{name}", params={"from": start})
    assert response.status_code == 200, response.text
    assert response.headers["Content-Type"].startswith("text/event-stream")
    return response.text


def test_chat_of_conversation_outlives_its_client(web: Web) -> None:
    job_id = begin(web, "c1", **USAGE)
    for n in range(1, 4):  # the API checks the connection before each event
        assert web.worker.append(job_id, Token("x", n, 1)) == "ok"
    finish(web, job_id)
    text = stream_of(web, "c1")
    assert text.count('"content"') == len(ANSWER) + 3
    assert '"total_tokens":11' in text
    assert text.endswith("data: [DONE]\n\n")


def test_stream_is_joined_at_any_byte(web: Web) -> None:
    job_id = begin(web, "some/model::c1")
    finish(web, job_id)
    text = stream_of(web, "some/model::c1")
    assert text.isascii()
    for start in (0, 1, 100, len(text) - 3, len(text), len(text) + 10):
        assert stream_of(web, "some/model::c1", start) == text[start:]
    named = web.http.get("/v1/stream", params={"conv_id": "some/model::c1", "from": 50})
    assert named.text == text[50:]


def test_stream_goes_on_live_behind_the_bytes_of_the_first_client(web: Web) -> None:
    job_id = begin(web, "c1")
    [session] = web.http.get("/v1/streams").json()
    assert (session["conversation_id"], session["is_done"], session["completed_at"]) == ("c1", False, 0)
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(stream_of, web, "c1", session["total_bytes"])
        eventually(lambda: web.subscribers(job_id) or None, "the second client", TIMEOUT_S)
        finish(web, job_id)
        rest = future.result(TIMEOUT_S)
    assert rest == stream_of(web, "c1")[session["total_bytes"] :]
    assert rest.startswith("data: {")
    [session] = web.http.get("/v1/streams", params={"conversation_id": "c1"}).json()
    assert (session["is_done"], session["total_bytes"]) == (True, len(stream_of(web, "c1")))
    assert session["completed_at"] >= session["started_at"] > 0


def test_whole_answer_of_conversation_outlives_its_client(web: Web) -> None:
    body, headers = {"messages": HI}, {"X-Conversation-Id": "c1"}
    with pytest.raises(httpx.ReadTimeout):
        web.http.post("/v1/chat/completions", json=body, headers=headers, timeout=0.5)
    job_id = new_job(web)
    web.worker.claim(job_id)
    assert web.worker.append(job_id, answer_tokens()[0]) == "ok"
    finish(web, job_id)
    assert stream_of(web, "c1").count('"content"') == len(ANSWER)


def test_delete_ends_the_answer_and_can_be_repeated(web: Web) -> None:
    job_id = begin(web, "c1")
    assert web.http.delete("/v1/stream/c1").status_code == 204
    assert web.worker.append(job_id) == "cancel"
    assert web.http.delete("/v1/stream/c1").status_code == 204
    assert web.http.delete("/v1/stream", params={"conv_id": "c1"}).status_code == 204
    assert web.http.get("/v1/stream/c1").json()["error"]["code"] == "not_found"
    assert web.http.get("/v1/streams").json() == []


def test_next_request_of_conversation_cancels_the_last_answer(web: Web) -> None:
    first, other = begin(web, "c1"), begin(web, "c2")
    second = begin(web, "c1")
    assert [web.worker.append(job) for job in (first, other, second)] == ["cancel", "ok", "ok"]
    finish(web, first)
    finish(web, second)
    web.http.delete(f"/v1/jobs/{first}").raise_for_status()  # the conversation is still found
    assert web.http.get("/v1/stream/c1").headers["X-Stoker-Job"] == second
    found = web.http.post("/v1/streams/lookup", json={"conversation_ids": ["c1", "c3"]}).json()
    assert [session["conversation_id"] for session in found] == ["c1"]


def test_refused_request_of_conversation_leaves_the_last_answer(web: Web) -> None:
    job_id = begin(web, "c1")
    for body in ({"model": "none"}, {"messages": [{"role": "user", "content": "x" * 100}]}):
        request = {"messages": HI} | body
        response = web.http.post("/v1/chat/completions", json=request, headers={"X-Conversation-Id": "c1"})
        assert response.status_code in (400, 404)
    assert web.worker.append(job_id) == "ok"
    finish(web, job_id)
    assert web.http.get("/v1/stream/c1").headers["X-Stoker-Job"] == job_id


def test_lookup_finds_variants_of_a_conversation(web: Web) -> None:
    begin(web, "c1::some/model")
    found = web.http.post("/v1/streams/lookup", json={"conversation_ids": ["c1"]}).json()
    assert [session["conversation_id"] for session in found] == ["c1::some/model"]


def test_stream_of_failed_chat_ends_with_the_error(web: Web) -> None:
    job_id = begin(web, "c1")
    web.worker.append(job_id, Failed("out_of_memory", "The GPU is full."))
    assert "The GPU is full." in stream_of(web, "c1")


def test_conversation_belongs_to_its_key(web: Web) -> None:
    keys = Keys(web.ledger.store)
    mine, other = (keys.create(name) for name in ("mine", "other"))
    web.http.headers["Authorization"] = f"Bearer {mine.text}"
    job_id = begin(web, "c1", mine.key.id)
    web.http.headers["Authorization"] = f"Bearer {other.text}"
    assert web.http.get("/v1/stream/c1").status_code == 404
    assert web.http.get("/v1/streams").json() == []
    assert web.http.delete("/v1/stream/c1").status_code == 204
    assert web.worker.append(job_id) == "ok"
    web.http.headers["Authorization"] = f"Bearer {mine.text}"
    assert len(web.http.get("/v1/streams").json()) == 1


def test_conversation_is_refused_by_name(web: Web) -> None:
    for headers, body, param in (
        ({"X-Conversation-Id": "c" * 256}, {}, "X-Conversation-Id"),
        (
            {"X-Conversation-Id": "c1"},
            {"stream": True, "stream_options": {"include_usage": True, "continuous_usage_stats": True}},
            "stream_options.continuous_usage_stats",
        ),
    ):
        response = web.http.post("/v1/chat/completions", json={"messages": HI, **body}, headers=headers)
        assert (response.status_code, response.json()["error"]["param"]) == (400, param)
    assert web.http.get("/v1/stream/none").status_code == 404
    begin(web, "c1")
    for path in ("/v1/stream/c1?from=-1", "/v1/stream/c1?from=x", "/v1/stream"):
        assert web.http.get(path).status_code == 400
    assert web.http.post("/v1/streams/lookup", json={"conversation_ids": "c1"}).status_code == 400


@pytest.mark.parametrize(("name", "header"), [("é🎉", "é🎉".encode()), ("é", "é".encode("latin-1"))])
def test_conversation_is_found_by_the_text_of_its_header(web: Web, name: str, header: bytes) -> None:
    finish(web, begin(web, header))
    assert stream_of(web, name).endswith("data: [DONE]\n\n")
