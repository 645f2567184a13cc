"""Tests that errors become the exceptions of OpenAI's client, and that it retries where that can help."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import openai
import pytest
from openai import DefaultHttpxClient

from tests.support.web.openai_clients import (
    ANSWER,
    HI,
    answer,
    client_of,
    new_job,
    pending_completion,
    request_completion,
)
from tests.support.web.webstack import CHAT, CONTEXT_LENGTH, TIMEOUT_S, Web
from worker.jobs.cards import ModelCard
from worker.jobs.events import Canceled, Failed

#: Settings of this module's server.
SETTINGS = {"max_waiting": 1}
COMPLETIONS = "/v1/chat/completions"
IMAGE = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}
#: Fields of vLLM and others that would change the answer.
VLLM_FIELDS: dict[str, Any] = {
    "guided_json": {"type": "object"}, "best_of": 2,
    "guided_regex": "a+", "guided_choice": ["a"], "guided_grammar": "a", "structured_outputs": {"json": {}},
    "length_penalty": 0.5, "use_beam_search": True,
    "allowed_token_ids": [1], "skip_special_tokens": False, "echo": True,
    "continue_final_message": True, "add_generation_prompt": False, "chat_template": "{{ 1 }}", "n": "2",
    "chat_template_kwargs": {"enable_thinking": False}, "truncate_prompt_tokens": 5, "return_token_ids": True,
    "prompt_logprobs": 1, "logits_processors": ["a"], "vllm_xargs": {"a": 1}, "json_schema": "{}",
}  # fmt: skip


def message(content: Any, role: str = "user", **fields: Any) -> dict[str, Any]:
    return {"messages": [*HI, {"role": role, "content": content, **fields}]}


@pytest.mark.parametrize(
    ("param", "request_"),
    [
        ("n", {"n": 2}),
        ("logprobs", {"logprobs": True}),
        ("top_logprobs", {"top_logprobs": 3}),
        ("tools", {"tools": [TOOL]}),
        ("tool_choice", {"tool_choice": "required"}),
        ("response_format", {"response_format": {"type": "json_object"}}),
        ("presence_penalty", {"presence_penalty": 0.5}),
        ("frequency_penalty", {"frequency_penalty": -1}),
        ("logit_bias", {"logit_bias": {"50256": -100}}),
        ("modalities", {"modalities": ["text", "audio"]}),
        ("messages", {"messages": []}),
        ("messages", {"messages": "Hi"}),
        ("messages[0]", {"messages": ["Hi"]}),
        ("messages[1].role", message("4", "function", name="f")),
        ("messages[1].tool_call_id", message("4", "tool")),
        ("messages[1].role", message("4", "wizard")),
        ("messages[1].content", message(None)),
        ("messages[1].content", message([], "system")),
        ("messages[1].content", {"messages": [*HI, {"role": "user"}]}),
        ("messages[1].content", message({}, "assistant")),
        ("messages[1].content", message(7)),
        ("messages[1].content", message([])),
        ("messages[1].content[0].type", message([IMAGE])),
        ("messages[1].content[1].type", message([{"type": "text", "text": "a"}, {"type": "input_audio"}])),
        ("messages[1].content[0].text", message([{"type": "text"}])),
        ("messages[1].tool_calls[0].function", message("a", "assistant", tool_calls=[{"id": "a"}])),
        ("messages", message("x" * CONTEXT_LENGTH)),
        ("max_completion_tokens", {"max_completion_tokens": 0}),
        ("max_tokens", {"max_tokens": 1.5}),
        ("temperature", {"temperature": 2.1}),
        ("top_p", {"top_p": 0}),
        ("seed", {"seed": "one"}),
        ("stop[1]", {"stop": ["a", ""]}),
        ("stop", {"stop": list("abcde")}),
        ("min_tokens", {"extra_body": {"min_tokens": -1}}),
        ("ignore_eos", {"extra_body": {"ignore_eos": "yes"}}),
        ("priority", {"extra_body": {"priority": 10}}),
        ("stream_options.include_usage", {"stream_options": {"include_usage": "yes"}}),
        ("stream", {"extra_body": {"stream": "yes"}}),
        ("model", {"model": 7}),
        ("temperature", {"extra_body": {"temperature": "warm"}}),
        ("temperature", {"extra_body": {"temperature": "nan"}}),
        ("temperature", {"extra_body": {"temperature": "1e999"}}),
        ("temperature", {"extra_body": {"temperature": "2.1"}}),
        ("temperature", {"extra_body": {"temperature": True}}),
        ("max_tokens", {"extra_body": {"max_tokens": "1.5"}}),
        ("max_tokens", {"extra_body": {"max_tokens": ""}}),
        ("model", {"model": "7", "extra_body": {"model": 7}}),
        *((name, {"extra_body": {name: value}}) for name, value in VLLM_FIELDS.items()),
    ],
)
def test_completion_invalid_request_names_parameter(web: Web, param: str, request_: dict[str, Any]) -> None:
    with client_of(web) as client, pytest.raises(openai.BadRequestError) as caught:
        request_completion(client, **request_)
    assert (caught.value.param, caught.value.type) == (param, "invalid_request_error")
    assert caught.value.body["message"]  # type: ignore[index]
    assert web.is_untouched()


@pytest.mark.parametrize(
    ("status", "content", "kind"),
    [
        (400, b"{", "application/json"),
        (400, b"[]", "application/json"),
        (400, b"null", "application/json"),
        (400, rb'{"messages": [{"role": "user", "content": "\ud800"}]}', "application/json"),
        (400, rb'{"messages": [{"role": "user", "content": "Hi"}], "model": "\ud800"}', "application/json"),
        (413, b" " * (17 * 2**20), "application/json"),
        (415, b"messages=Hi", "application/x-www-form-urlencoded"),
    ],
)
def test_completion_refuses_unparsable_body(web: Web, status: int, content: bytes, kind: str) -> None:
    response = web.http.post(COMPLETIONS, content=content, headers={"Content-Type": kind})
    assert response.status_code == status
    error = response.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert web.is_untouched()


def test_errors_by_path_and_method(web: Web) -> None:
    wrong = web.http.get(COMPLETIONS)
    assert wrong.status_code == 405
    assert sorted(wrong.headers["Allow"].split(", ")) == ["OPTIONS", "POST"]
    assert wrong.json()["error"]["code"] == "method_not_allowed"
    assert web.http.get("/v1/videos/a/b").json()["error"]["type"] == "not_found_error"
    for path in ("/v1/embeddings", "/v1/modelsandmore", "/v1/", "/v1/uploads/a"):
        error = web.http.post(path).json()["error"]
        assert (error["type"], error["message"]) == ("not_found_error", f"There is no route POST {path}.")
    for path in ("/v1/jobs/nobody", "/v1/jobs/a/b", "/v1/queues/a", "/v1/workers/a", "/nowhere"):
        assert web.http.get(path).headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("model", ["gpt-5", "matte"])
def test_completion_unknown_model_is_not_found(web: Web, model: str) -> None:
    with client_of(web) as client, pytest.raises(openai.NotFoundError, match=model) as caught:
        request_completion(client, model=model)
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    assert ("video model, for jobs at /v1/jobs/video" in str(caught.value)) == (model == "matte")
    assert "models here are: tiny" in str(caught.value)
    assert web.is_untouched()


def test_completion_not_ready_has_retry_after(web: Web) -> None:
    web.ledger.store.client.delete(web.ledger.store.key("models"))
    with client_of(web) as client, pytest.raises(openai.InternalServerError) as caught:
        request_completion(client, model=None)  # the API may still know a named model for a second
    assert (caught.value.status_code, caught.value.code, caught.value.type) == (
        503, "not_ready", "server_error"
    )  # fmt: skip
    assert int(caught.value.response.headers["Retry-After"]) > 0


def fill(web: Web) -> str:
    """Fill the chat queue, whose jobs are short. Return the id of the only waiting job."""
    web.ready_worker("chat", slots=1)
    web.ledger.store.client.hset(web.ledger.store.key("service"), CHAT, 1)
    web.worker.claim(web.submit())
    return web.submit()


@pytest.mark.parametrize("stream", [False, True])
def test_completion_full_queue_is_rate_limit(web: Web, stream: bool) -> None:
    fill(web)
    with client_of(web) as client, pytest.raises(openai.RateLimitError) as caught:
        request_completion(client, stream=stream)
    assert (caught.value.code, caught.value.type) == ("queue_full", "rate_limit_error")
    assert int(caught.value.response.headers["Retry-After"]) > 0
    assert len(web.ledger.page()) == 2


def test_completion_client_retries_after_rate_limit(web: Web) -> None:
    waiting, statuses = fill(web), []

    def look(response: httpx2.Response) -> None:
        statuses.append(response.status_code)
        if response.status_code == 429:
            web.ledger.cancel(waiting)  # so that the queue has room when the client retries

    http = DefaultHttpxClient(event_hooks={"response": [look]})
    with client_of(web, max_retries=1, http_client=http) as client, ThreadPoolExecutor(1) as pool:
        future = pool.submit(request_completion, client)
        answer(web, new_job_after(web, waiting, future))
        assert future.result(TIMEOUT_S).choices[0].message.content == "".join(ANSWER)
    assert statuses == [429, 200]


def new_job_after(web: Web, waiting: str, future: Any) -> str:
    with web.events(waiting) as events:
        assert [event.event for event in events][-1] == "canceled"
    return new_job(web, future)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("code", "status", "retried"),
    [("engine_failed", 500, False), ("out_of_memory", 500, True), ("timeout", 504, False),
     ("expired", 503, True)],
)  # fmt: skip
def test_completion_failed_job_is_server_error(
    web: Web, stream: bool, code: str, status: int, retried: bool
) -> None:
    with pending_completion(web, stream=stream) as (job_id, future):
        web.worker.claim(job_id)
        web.worker.append(job_id, Failed(code, "It could not be done."))
        with pytest.raises(openai.InternalServerError, match="could not be done") as caught:
            future.result(TIMEOUT_S)
    error, headers = caught.value, caught.value.response.headers
    assert (error.status_code, error.code, error.type) == (status, code, "server_error")
    assert headers["X-Stoker-Job"] == job_id
    assert headers.get("X-Should-Retry") == (None if retried else "false")
    assert ("Retry-After" in headers) == (status == 503)


def test_completion_canceled_job_is_conflict_without_retry(web: Web) -> None:
    with client_of(web, max_retries=2) as client, ThreadPoolExecutor(1) as pool:
        future = pool.submit(request_completion, client)
        job_id = new_job(web, future)
        web.worker.claim(job_id)
        web.worker.append(job_id, Canceled())
        with pytest.raises(openai.ConflictError) as caught:
            future.result(TIMEOUT_S)
    assert caught.value.code == "canceled"
    assert [record.id for record in web.ledger.page()] == [job_id]


def test_completion_without_model_uses_only_model(web: Web) -> None:
    with pending_completion(web, model=None) as (job_id, future):
        answer(web, job_id)
        assert future.result(TIMEOUT_S).model == "tiny"
    web.registry.publish_model(ModelCard("other", "chat", "chat.other", CONTEXT_LENGTH))
    with client_of(web) as client, pytest.raises(openai.NotFoundError, match="other, tiny"):
        request_completion(client, model=None)
