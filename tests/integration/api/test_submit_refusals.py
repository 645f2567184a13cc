"""Refusals of submits, and of requests for unknown resources."""

import json
from contextlib import closing
from http.client import HTTPConnection
from typing import Any

import pytest

from tests.support.web.webstack import (
    CHAT,
    CONTEXT_LENGTH,
    HELLO,
    TIMEOUT_S,
    Web,
    assert_refused,
    tiny_template,
    upload,
)
from webapi.http.json_structure import MAX_KEYS
from webapi.keys.keys import Keys
from worker.jobs.cards import ModelCard
from worker.jobs.chat.sampling import SamplingParams
from worker.jobs.events import Succeeded
from worker.jobs.specs import ChatJob

USER = {"role": "user", "content": "Hi"}
PROMPT = "<user>"
TEXT = {"type": "text", "text": "Hi"}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}

#: Settings of this module's server.
SETTINGS = {"max_waiting": 2, "max_timeout_s": 60, "max_queue_limit_s": 600}


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
        ("messages.0.mood", {"messages": [USER | {"mood": "good"}]}),
        ("messages.0.content.1.type", {"messages": [{"role": "user", "content": [TEXT, {"type": "file"}]}]}),
        ("messages.0.tool_call_id", {"messages": [USER | {"tool_call_id": "a"}]}),
        ("messages.0.tool_call_id", {"messages": [USER | {"role": "tool"}]}),
        ("messages.0.tool_calls.0.id", {"messages": [{"role": "assistant", "tool_calls": [{}]}]}),
        ("messages.0.reasoning", {"messages": [USER | {"reasoning": "Hm"}]}),
        ("messages", {"messages": [{"role": "user", "content": "x" * CONTEXT_LENGTH}]}),
        ("max_tokens", HELLO | {"max_tokens": 0}),
        ("max_tokens", HELLO | {"max_tokens": 1.5}),
        ("max_tokens", HELLO | {"max_tokens": "9"}),
        ("temperature", HELLO | {"temperature": "0.7"}),
        ("temperature", HELLO | {"temperature": -0.1}),
        ("temperature", HELLO | {"temperature": float("nan")}),
        ("top_p", HELLO | {"top_p": 0}),
        ("seed", HELLO | {"seed": 2**63}),
        ("stop", HELLO | {"stop": ["a"] * 5}),
        ("stop.0", HELLO | {"stop": ""}),
        ("top_k", HELLO | {"top_k": -2}),
        ("min_p", HELLO | {"min_p": 1.1}),
        ("presence_penalty", HELLO | {"presence_penalty": 2.1}),
        ("repetition_penalty", HELLO | {"repetition_penalty": 0}),
        ("logit_bias.a.[key]", HELLO | {"logit_bias": {"a": 1}}),
        ("logit_bias.5", HELLO | {"logit_bias": {"5": 101}}),
        ("stop_token_ids.0", HELLO | {"stop_token_ids": [-1]}),
        ("bad_words.0", HELLO | {"bad_words": [""]}),
        ("bad_words.0", HELLO | {"bad_words": ["\n"]}),
        ("top_k", HELLO | {"top_k": 5}),
        ("frequency_penalty", HELLO | {"frequency_penalty": 0.5}),
        ("top_logprobs", HELLO | {"top_logprobs": 3}),
        ("top_logprobs", HELLO | {"logprobs": True, "top_logprobs": 21}),
        ("n", HELLO | {"n": 2}),
        ("tools", HELLO | {"tools": [TOOL]}),
        ("tools", HELLO | {"tools": [TOOL, TOOL]}),
        ("tools.0.function", HELLO | {"tools": [{"type": "function"}]}),
        ("tools.0.function.name", HELLO | {"tools": [{"type": "function", "function": {"name": "f<"}}]}),
        ("tool_choice", HELLO | {"tool_choice": "required"}),
        ("tool_choice", HELLO | {"tools": [TOOL], "tool_choice": "sometimes"}),
        ("tool_choice", HELLO | {"tool_choice": {"type": "function", "function": {"name": "g"}}}),
        ("add_generation_prompt", HELLO | {"continue_final_message": True, "add_generation_prompt": True}),
        ("chat_template_kwargs", HELLO | {"chat_template_kwargs": {"a": {"b": [10**7]}}}),
        ("chat_template_kwargs", HELLO | {"chat_template_kwargs": {"a": "x" * 2**14}}),
        ("chat_template_kwargs.a b.[key]", HELLO | {"chat_template_kwargs": {"a b": 1}}),
        ("truncate_prompt_tokens", HELLO | {"truncate_prompt_tokens": 0}),
        ("reasoning_effort", HELLO | {"reasoning_effort": "huge"}),
        ("timeout_s", HELLO | {"timeout_s": 0}),
        ("timeout_s", HELLO | {"timeout_s": float("inf")}),
        ("max_queue_s", HELLO | {"max_queue_s": -1}),
        ("timeout_s", HELLO | {"timeout_s": 60.1}),
        ("max_queue_s", HELLO | {"max_queue_s": 1e300}),
        ("max_tokens", HELLO | {"max_tokens": 2**31}),
        ("model", HELLO | {"model": "x" * 257}),
        ("webhook_url", HELLO | {"webhook_url": f"https://example.com/{'x' * 2048}"}),
        ("model", HELLO | {"model": "gpt"}),
        ("model", HELLO | {"model": "matte"}),
        ("max_new_tokens", HELLO | {"max_new_tokens": 3}),
        ("body", [HELLO]),
        ("body", "Hi"),
        ("body", None),
    ],
)
def test_submit_chat_refusal_names_the_field(web: Web, field: str, body: Any) -> None:
    headers = {"Content-Type": "application/json"}
    response = web.http.post("/v1/jobs/chat", content=json.dumps(body), headers=headers)
    assert_refused(web, response, 422, field)


def test_submit_chat_long_prompt_refusal_names_both_lengths(web: Web) -> None:
    fits = "x" * (CONTEXT_LENGTH - len(PROMPT) - 1)
    response = web.http.post("/v1/jobs/chat", json={"messages": [USER | {"content": fits + "x"}]})
    detail = assert_refused(web, response, 422, "messages")
    assert "prompt is too long" in detail  # the words that clients look for
    assert f"context holds {CONTEXT_LENGTH} tokens" in detail
    assert f"prompt has {CONTEXT_LENGTH}" in detail
    web.submit(messages=[USER | {"content": fits}])


def test_submit_chat_names_parameter_that_the_engine_lacks(web: Web) -> None:
    lesser = ModelCard(
        "lesser", "chat", "chat.lesser", CONTEXT_LENGTH, digest="1", sampling=("max_tokens", "stop")
    )
    web.registry.publish_model(lesser, tiny_template().to_json())
    asked = HELLO | {"model": "lesser", "max_tokens": 3, "stop": ["a"], "temperature": 1.0}
    for given in ({"top_p": 0.5}, {"top_p": 0.5, "seed": 1}):
        response = web.http.post("/v1/jobs/chat", json=asked | given)
        detail = assert_refused(web, response, 422, "top_p")
        assert detail == "top_p is not supported by the engine of lesser"
        openai = web.http.post("/v1/chat/completions", json=asked | given)
        error = openai.json()["error"]
        assert (openai.status_code, error["code"], error["param"]) == (400, "invalid_input", "top_p")
    assert web.is_untouched()
    assert web.http.post("/v1/jobs/chat", json=asked).status_code == 202


def test_submit_chat_refuses_bias_of_token_that_the_model_lacks(web: Web) -> None:
    every = tuple(SamplingParams.model_fields)
    web.registry.publish_model(
        ModelCard("able", "chat", "chat.able", CONTEXT_LENGTH, digest="1", sampling=every),
        tiny_template().to_json(),
    )
    size = tiny_template().tokenizer.get_vocab_size()
    asked = HELLO | {"model": "able"}
    response = web.http.post("/v1/jobs/chat", json=asked | {"logit_bias": {"0": 1, str(size): 1}})
    detail = assert_refused(web, response, 422, "logit_bias")
    assert detail == f"the model has no token {size}, only 0 to {size - 1}"
    assert web.http.post("/v1/jobs/chat", json=asked | {"logit_bias": {str(size - 1): 1}}).status_code == 202


STRUCTURES = [
    ("structured_outputs.json", {"structured_outputs": {"json": "{"}}),
    ("structured_outputs.json", {"structured_outputs": {"json": {"title": "x" * 2**16}}}),
    ("structured_outputs.json", {"structured_outputs": {"json": {"title": "\ud800"}}}),
    ("structured_outputs.xml", {"structured_outputs": {"xml": "a"}}),
    ("structured_outputs.choice", {"structured_outputs": {"choice": []}}),
    ("structured_outputs", {"structured_outputs": {"regex": "a", "choice": ["a"]}}),
    ("structured_outputs", {"structured_outputs": {"json": {"type": "text"}}}),
    ("structured_outputs", {"structured_outputs": {"json": {"uniqueItems": True}}}),
    ("structured_outputs", {"structured_outputs": {"json": {"$ref": "http://127.0.0.1/a.json"}}}),
    ("structured_outputs", {"structured_outputs": {"regex": "("}}),
    ("structured_outputs", {"structured_outputs": {"grammar": "start: nothing"}}),
    ("structured_outputs", {"structured_outputs": {"grammar": "::= nothing"}}),
    ("response_format.type", {"response_format": {"type": "structural_tag"}}),
    ("response_format.json_schema.schema", {"response_format": {"type": "json_schema", "json_schema": {}}}),
    ("response_format", {"response_format": {"type": "json_schema"}}),
    ("response_format", {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": 5}}}}),
    ("ignore_eos", {"structured_outputs": {"regex": "a"}, "ignore_eos": True}),
    ("min_tokens", {"response_format": {"type": "json_object"}, "min_tokens": 3}),
]


def able(web: Web) -> dict[str, Any]:
    """Serve a model whose engine supports every parameter, and return a request for it."""
    card = ModelCard(
        "able", "chat", "chat.able", CONTEXT_LENGTH, digest="1", sampling=tuple(SamplingParams.model_fields)
    )
    web.registry.publish_model(card, tiny_template().to_json())
    return HELLO | {"model": "able"}


@pytest.mark.parametrize(("field", "given"), STRUCTURES)
def test_submit_chat_names_field_of_structure_that_cannot_be_used(
    web: Web, field: str, given: dict[str, Any]
) -> None:
    body = json.dumps(able(web) | given)
    response = web.http.post("/v1/jobs/chat", content=body, headers={"Content-Type": "application/json"})
    assert_refused(web, response, 422, field)


def test_submit_chat_stores_response_format_as_structured_outputs(web: Web) -> None:
    schema = {"type": "object", "uniqueItems": True}
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    response = web.http.post("/v1/jobs/chat", json=able(web) | {"response_format": form})
    assert response.status_code == 202, response.text
    asked = {"structured_outputs": {"json": schema, "strict": False}}
    assert web.ledger.get(response.json()["id"]).spec == ChatJob.model_validate(able(web) | asked)
    assert not {"response_format", "structured_outputs"} & response.json()["parameters"].keys()


def test_submit_chat_takes_null_and_neutral_values_of_any_parameter(web: Web) -> None:
    """The engine of tiny supports only the common parameters."""
    nulls = dict.fromkeys(ChatJob.model_fields.keys() - {"messages"} | {"n", "response_format"})
    neutral: dict[str, object] = {
        "presence_penalty": 0, "frequency_penalty": 0, "repetition_penalty": 1, "logit_bias": {}, "top_k": -1,
        "bad_words": [], "stop_token_ids": [], "min_p": 0, "n": 1, "tools": [], "logprobs": False,
        "tool_choice": "none", "parallel_tool_calls": True, "continue_final_message": False,
        "add_generation_prompt": True, "chat_template_kwargs": {}, "include_reasoning": True,
        "response_format": {"type": "text"}, "structured_outputs": {},
    }  # fmt: skip
    for given in (nulls, neutral):
        response = web.http.post("/v1/jobs/chat", json=HELLO | given)
        assert response.status_code == 202, response.text
        spec = web.ledger.get(response.json()["id"]).spec
        assert spec == ChatJob.model_validate(HELLO | {"model": "tiny"})


def test_submit_chat_huge_prompt_is_refused_without_a_count(web: Web) -> None:
    response = web.http.post("/v1/jobs/chat", json={"messages": [USER | {"content": "x" * 2**20}]})
    assert "at least" in assert_refused(web, response, 422, "messages")


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
def test_submit_chat_refuses_bodies_that_are_not_json(
    web: Web, status: int, content: bytes, kind: str
) -> None:
    response = web.http.post("/v1/jobs/chat", content=content, headers={"Content-Type": kind})
    assert_refused(web, response, status)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/v1/jobs/chat", "application/json"),
        ("/v1/chat/completions", "application/json"),
        ("/v1/jobs/video", "multipart/form-data; boundary=b"),
    ],
)
def test_submit_refuses_broken_chunked_bodies(web: Web, path: str, kind: str) -> None:
    url = web.http.base_url
    with closing(HTTPConnection(url.host, url.port, timeout=TIMEOUT_S)) as connection:
        headers = {"Content-Type": kind, "Transfer-Encoding": "chunked"}
        connection.request("POST", path, b"no size\r\n", headers)
        assert connection.getresponse().status == 400
    assert web.is_untouched()


@pytest.mark.parametrize(
    ("status", "field", "content"),
    [
        (422, "body", json.dumps(HELLO | dict.fromkeys(map(str, range(MAX_KEYS)), 0))),
        (422, "body", json.dumps({"messages": [USER | dict.fromkeys(map(str, range(MAX_KEYS)), 0)]})),
        (422, "body", f'{{"messages": [{"{},"*2**17}1]}}'),
        (422, "body", f'{{"messages": [], "stop": [{"[],"*2**17}1]}}'),
        (422, "body", f'{{"seed": {"9" * 200}}}'),
        (400, None, f'{{"seed": {"[" * 100}{"]" * 100}}}'),
        (422, "messages", json.dumps({"messages": [USER | {"content": ""}] * CONTEXT_LENGTH})),
    ],
)  # fmt: skip
def test_submit_refuses_bodies_by_their_structure(
    web: Web, status: int, field: str | None, content: str
) -> None:
    headers = {"Content-Type": "application/json"}
    assert_refused(web, web.http.post("/v1/jobs/chat", content=content, headers=headers), status, field)
    compatible = web.http.post("/v1/chat/completions", content=content, headers=headers)
    assert (compatible.status_code, compatible.json()["error"]["param"]) == (400, field)
    assert web.is_untouched()


def test_submit_chat_accepts_utf_8_with_byte_order_mark_only(web: Web) -> None:
    text, headers = json.dumps(HELLO), {"Content-Type": "application/json"}
    marked = web.http.post("/v1/jobs/chat", content=text.encode("utf-8-sig"), headers=headers)
    assert marked.status_code == 202
    wide = web.http.post("/v1/jobs/chat", content=text.encode("utf-16"), headers=headers)
    assert wide.status_code == 400


def test_list_refuses_many_parameters(web: Web) -> None:
    response = web.http.get("/v1/jobs", params=dict.fromkeys(map(str, range(65)), ""))
    assert_refused(web, response, 422, "query")


def test_submit_chat_refuses_bodies_over_the_limit(web: Web) -> None:
    response = web.http.post("/v1/jobs/chat", json=HELLO | {"model": "x" * (17 * 2**20)})
    assert_refused(web, response, 413, "body")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("GET", "/v1/jobs/nobody", 404, "not_found"),
        ("DELETE", "/v1/jobs/nobody", 404, "not_found"),
        ("GET", "/v1/jobs/nobody/result", 404, "not_found"),
        ("GET", "/v1/jobs/nobody/memory", 404, "not_found"),
        ("POST", "/v1/jobs/nobody/cancel", 404, "not_found"),
        ("DELETE", "/v1/jobs/..%2f..", 404, "not_found"),
        ("PUT", "/v1/jobs/chat", 405, "method_not_allowed"),
        ("GET", "/v1/jobs/chat", 405, "method_not_allowed"),
        ("DELETE", "/v1/jobs/video", 405, "method_not_allowed"),
    ],
)
def test_unknown_resources_answer_with_problems(
    web: Web, method: str, path: str, status: int, code: str
) -> None:
    response = web.http.request(method, path)
    assert_refused(web, response, status)
    assert response.json()["code"] == code
    assert ("Allow" in response.headers) == (status == 405)


@pytest.mark.parametrize("job_id", ["nope", "0" * 32, "chat1", "chat.tiny", "ž"])
@pytest.mark.parametrize("part", ["", "/events", "/result", "/memory", "/memory.svg"])
def test_unknown_job_has_the_same_answer_on_all_routes(web: Web, job_id: str, part: str) -> None:
    answer = web.http.get(f"/v1/jobs/{job_id}{part}")
    assert (answer.status_code, answer.json()["detail"]) == (404, f"there is no job {job_id}")


def test_full_queue_refuses_chats_and_uploads(web: Web, clip: bytes) -> None:
    web.ready_worker("chat", slots=1)
    done = web.submit()
    web.worker.claim(done)
    web.worker.append(done, Succeeded({}, {}))
    web.ledger.store.client.hset(web.ledger.store.key("service"), CHAT, 30)
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


def test_keys_that_fill_the_queue_do_not_lock_out_others(web: Web) -> None:
    keys = [Keys(web.ledger.store).create(name).text for name in ("flood", "other")]
    flood, other = ({"Authorization": f"Bearer {key}"} for key in keys)
    asked = [
        web.http.post("/v1/jobs/chat", json=HELLO, headers=who) for who in (flood, flood, flood, other, other)
    ]
    assert [response.status_code for response in asked] == [202, 202, 429, 202, 429]


def test_submit_answers_503_while_redis_refuses_writes(web: Web, clip: bytes) -> None:
    web.ledger.store.client.config_set("min-replicas-to-write", 1)
    try:
        answers = [web.http.post("/v1/jobs/chat", json=HELLO), upload(web, clip)]
    finally:
        web.ledger.store.client.config_set("min-replicas-to-write", 0)
    for response in answers:
        assert "cannot write" in assert_refused(web, response, 503)


def test_submit_chat_takes_whole_decimals_as_integers(web: Web) -> None:
    spec = web.ledger.get(web.submit(max_tokens=42.0, seed=1e3, priority=9.0, temperature=1.0)).spec
    assert isinstance(spec, ChatJob)
    assert (spec.max_tokens, spec.seed, spec.priority, spec.temperature) == (42, 1000, 9, 1)


def test_submit_accepts_the_largest_times(web: Web) -> None:
    web.submit(timeout_s=60, max_queue_s=600)


def test_submit_without_a_served_model_answers_503(web: Web, clip: bytes) -> None:
    web.ledger.store.client.delete(web.ledger.store.key("models"))
    for response in (web.http.post("/v1/jobs/chat", json=HELLO), upload(web, clip)):
        assert_refused(web, response, 503)
        assert int(response.headers["Retry-After"]) > 0


def test_submit_chat_with_several_models_requires_a_name(web: Web) -> None:
    web.registry.publish_model(ModelCard("other", "chat", "chat.other", CONTEXT_LENGTH))
    detail = assert_refused(web, web.http.post("/v1/jobs/chat", json=HELLO), 422, "model")
    assert "other, tiny" in detail
    assert_refused(web, web.http.post("/v1/jobs/chat", json=HELLO | {"model": "other"}), 503)
    web.submit(model="tiny")


@pytest.mark.parametrize(
    "url",
    [
        "x",
        "http://127.0.0.1/",
        "https://0x7f.1/",
        "http://localhost/",
        "http://u:p@a.com/",
        "http://a.com:22/",
    ],
)
def test_submit_chat_refuses_webhook_urls_that_are_not_allowed(web: Web, url: str) -> None:
    assert_refused(web, web.http.post("/v1/jobs/chat", json=HELLO | {"webhook_url": url}), 422, "webhook_url")
