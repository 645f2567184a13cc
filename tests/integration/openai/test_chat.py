"""Tests of chat completions, as one response and as a stream, with OpenAI's Python client."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest

from tests.support.web.openai_clients import (
    ANSWER,
    HI,
    USAGE,
    answer,
    answer_tokens,
    client_of,
    new_job,
    pending_completion,
    request_completion,
    success_event,
    url_of,
)
from tests.support.web.webstack import CHAT, CONTEXT_LENGTH, TIMEOUT_S, Web, publish_able_model
from worker.jobs.cards import ModelCard
from worker.jobs.chat.logprobs import TokenLogprob, TopLogprob
from worker.jobs.chat.sampling import TO_CONTEXT_END
from worker.jobs.events import Failed, Succeeded, Token
from worker.jobs.specs import ChatJob


def spec_of(web: Web, job_id: str) -> ChatJob:
    spec = web.ledger.get(job_id).spec
    assert isinstance(spec, ChatJob)
    return spec


def test_completion_is_parsed_by_client(web: Web) -> None:
    with pending_completion(web) as (job_id, future):
        answer(web, job_id)
        completion = future.result(TIMEOUT_S)
    assert completion.id == f"chatcmpl-{job_id}"
    assert (completion.object, completion.model) == ("chat.completion", "tiny")
    assert completion.created == int(web.ledger.get(job_id).created_at)
    [choice] = completion.choices
    assert (choice.index, choice.finish_reason, choice.logprobs) == (0, "stop", None)
    assert (choice.message.role, choice.message.content) == ("assistant", "".join(ANSWER))
    assert completion.usage.to_dict() == USAGE


@pytest.mark.parametrize("stream", [False, True])
def test_logprobs_are_parsed_by_client(web: Web, stream: bool) -> None:
    top: list[TopLogprob] = [{"token": "He", "logprob": -0.25, "bytes": [72, 101]}]
    entries: list[TokenLogprob] = [
        {"token": text, "logprob": -1.5, "bytes": list(text.encode()), "top_logprobs": top} for text in ANSWER
    ]
    asked = {"model": publish_able_model(web), "stream": stream, "logprobs": True, "top_logprobs": 1}
    with pending_completion(web, **asked) as (job_id, future):
        assert (spec_of(web, job_id).logprobs, spec_of(web, job_id).top_logprobs) == (True, 1)
        web.worker.claim(job_id)
        tokens = [Token(text, n, 1, logprobs=[entries[n]]) for n, text in enumerate(ANSWER)]
        web.worker.append(job_id, *tokens, success_event())
        answered = future.result(TIMEOUT_S)
    choices = [each.choices[0] for each in (answered if stream else [answered])]
    assert [choice.logprobs is None for choice in choices] == ([False] * 3 + [True] if stream else [False])
    content = [entry.to_dict() for choice in choices if choice.logprobs for entry in choice.logprobs.content]
    assert content == entries


def test_completion_header_names_job(web: Web) -> None:
    with client_of(web) as client:

        def raw() -> Any:
            return client.chat.completions.with_raw_response.create(model="tiny", messages=HI)

        with ThreadPoolExecutor(1) as pool:
            future = pool.submit(raw)
            job_id = new_job(web, future)
            answer(web, job_id)
            assert future.result(TIMEOUT_S).headers["X-Stoker-Job"] == job_id
    assert web.job(job_id)["state"] == "succeeded"


def test_stream_is_parsed_by_client(web: Web) -> None:
    with pending_completion(web, stream=True, stream_options={"include_usage": True}) as (job_id, future):
        answer(web, job_id)
        chunks = future.result(TIMEOUT_S)
    assert {chunk.id for chunk in chunks} == {f"chatcmpl-{job_id}"}
    *texts, end, usage = chunks
    assert [chunk.choices[0].delta.content for chunk in texts] == list(ANSWER)
    assert [chunk.choices[0].delta.role for chunk in texts] == ["assistant", None, None]
    assert [chunk.choices[0].finish_reason for chunk in texts] == [None] * 3
    assert (end.choices[0].delta.content, end.choices[0].finish_reason) == (None, "stop")
    assert (usage.choices, usage.usage.to_dict()) == ([], USAGE)


@pytest.mark.parametrize("include_usage", [None, True])
def test_stream_has_only_data_lines(web: Web, include_usage: bool | None) -> None:
    body = {"messages": HI, "stream": True, "stream_options": include_usage and {"include_usage": True}}
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(web.http.post, "/v1/chat/completions", json=body)
        job_id = new_job(web, future)
        web.worker.claim(job_id)
        web.worker.append(job_id, *answer_tokens(), success_event())
        response = future.result(TIMEOUT_S)
    assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["X-Stoker-Job"] == job_id
    *events, nothing = response.text.split("\n\n")
    assert nothing == ""
    assert all(event.startswith("data: ") and event.isascii() and "\n" not in event for event in events)
    *chunks, end = [event.removeprefix("data: ") for event in events]
    assert end == "[DONE]"
    first, *others = [json.loads(chunk) for chunk in chunks]
    delta = {"role": "assistant", "content": "Hel"}
    assert first["choices"] == [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}]
    assert first["object"] == "chat.completion.chunk"
    last = others[2]["choices"][0]
    assert (last["delta"], last["finish_reason"]) == ({}, "stop")
    usages = [chunk.get("usage", "none") for chunk in (first, *others)]
    assert usages == ([None] * 4 + [USAGE] if include_usage else ["none"] * 4)


def test_stream_of_empty_answer_has_role(web: Web) -> None:
    with pending_completion(web, stream=True) as (job_id, future):
        web.worker.claim(job_id)
        web.worker.append(job_id, Succeeded({"text": "", "finish_reason": "stop"}, USAGE))
        [chunk] = future.result(TIMEOUT_S)
    assert chunk.choices[0].delta.to_dict() == {"role": "assistant", "content": ""}
    assert chunk.choices[0].finish_reason == "stop"


def test_stream_continues_after_requeue(web: Web) -> None:
    with pending_completion(web, stream=True) as (job_id, future):
        web.worker.claim(job_id)
        web.worker.append(job_id, *answer_tokens()[:2])
        web.ledger.requeue(job_id, web.worker.name, "drain")
        web.worker.claim(job_id)
        web.worker.append(job_id, *answer_tokens()[2:], success_event(reason="length"))
        *texts, end = future.result(TIMEOUT_S)
    assert [chunk.choices[0].delta.content for chunk in texts] == list(ANSWER)
    assert end.choices[0].finish_reason == "length"


def test_stream_failure_raises_client_error(web: Web) -> None:
    with client_of(web) as client, ThreadPoolExecutor(1) as pool:
        future = pool.submit(client.chat.completions.create, model="tiny", messages=HI, stream=True)
        job_id = new_job(web, future)
        web.worker.claim(job_id)
        web.worker.append(job_id, Token("Hel", 0, 1))
        chunks: Any = future.result(TIMEOUT_S)
        assert next(chunks).choices[0].delta.content == "Hel"
        web.worker.append(job_id, Failed("out_of_memory", "The GPU is full."))
        with pytest.raises(openai.APIError, match="The GPU is full") as caught:
            next(chunks)
    assert (caught.value.code, caught.value.type) == ("out_of_memory", "server_error")


def test_completion_parameters_reach_job(web: Web) -> None:
    messages = [
        {"role": "developer", "content": "Be brief.", "name": "dev"},
        {"role": "user", "content": [{"type": "text", "text": "Hi"}, {"type": "text", "text": "you"}]},
        {"role": "assistant", "content": "Yes?", "tool_calls": [], "refusal": None},
        {"role": "user", "content": ""},
    ]
    request: dict[str, Any] = {
        "messages": messages, "max_completion_tokens": 7, "max_tokens": 9, "temperature": 0, "top_p": 0.5,
        "seed": 3, "stop": "end", "extra_body": {"ignore_eos": True, "min_tokens": 2, "priority": 9},
    }  # fmt: skip
    with pending_completion(web, **request) as (job_id, future):
        spec = spec_of(web, job_id)
        answer(web, job_id)
        future.result(TIMEOUT_S)
    assert [(message.role, message.content) for message in spec.messages] == [
        ("system", "Be brief."), ("user", "Hi\nyou"), ("assistant", "Yes?"), ("user", "")
    ]  # fmt: skip
    assert (spec.max_tokens, spec.temperature, spec.top_p, spec.seed) == (7, 0, 0.5, 3)
    assert (spec.stop, spec.ignore_eos, spec.min_tokens, spec.priority) == (["end"], True, 2, 9)


def test_completion_takes_empty_turns_of_the_assistant(web: Web) -> None:
    turn = {"role": "assistant"}
    empty: list[Any] = [turn, turn | {"content": None, "audio": None, "function_call": None}]
    with pending_completion(web, messages=[*empty, turn | {"content": []}, *HI]) as (job_id, future):
        messages = spec_of(web, job_id).messages
        answer(web, job_id)
        future.result(TIMEOUT_S)
    assert [(each.role, each.content) for each in messages] == [("assistant", "")] * 3 + [("user", "Hi")]


@pytest.mark.parametrize("text", [False, True])
def test_completion_takes_texts_and_whole_decimals_as_numbers(web: Web, text: bool) -> None:
    numbers: dict[str, float] = {
        "temperature": 0.7, "top_p": 1.0, "max_completion_tokens": 42.0, "seed": -3.0, "min_tokens": 2.0,
        "priority": 9.0, "timeout_s": 60.5, "max_queue_s": 60.0, "max_tokens": 1e2,
    }  # fmt: skip
    body = {name: str(value) for name, value in numbers.items()} if text else numbers
    with pending_completion(web, extra_body=body | ({"seed": " -3 "} if text else {})) as (job_id, future):
        spec = spec_of(web, job_id)
        answer(web, job_id)
        future.result(TIMEOUT_S)
    assert (spec.temperature, spec.top_p, spec.max_tokens, spec.seed) == (0.7, 1, 42, -3)
    assert (spec.min_tokens, spec.priority, spec.timeout_s, spec.max_queue_s) == (2, 9, 60.5, 60)


def test_completion_ignores_neutral_null_and_unknown_fields(web: Web) -> None:
    neutral: dict[str, Any] = {
        "n": 1, "logprobs": False, "tools": [], "tool_choice": "none", "response_format": {"type": "text"},
        "presence_penalty": 0, "frequency_penalty": 0.0, "logit_bias": {}, "modalities": ["text"],
        "top_k": -1, "min_p": 0.0, "stop_token_ids": [], "repetition_penalty": 1.0, "echo": False,
        "best_of": "1", "use_beam_search": False, "add_generation_prompt": True, "chat_template_kwargs": {},
    }  # fmt: skip
    nulls = dict.fromkeys(
        ["n", "logprobs", "top_logprobs", "tools", "stop", "seed", "temperature", "max_tokens", "stream",
         "max_completion_tokens", "stream_options", "response_format", "model", "top_p", "priority"]
    )  # fmt: skip
    unknown = {"user": "me", "store": True, "metadata": {"a": "b"}, "shiny": [1]}
    for extra in (neutral, nulls, unknown):
        with pending_completion(web, extra_body=extra) as (job_id, future):
            spec = spec_of(web, job_id)
            answer(web, job_id)
            future.result(TIMEOUT_S)
        bare = ChatJob.model_validate({"messages": HI, "model": "tiny", "max_tokens": TO_CONTEXT_END})
        assert spec == bare


def test_models_list_begins_with_default_chat_model(web: Web) -> None:
    for name in ("SmolLM2-135M-Instruct", "another"):
        web.registry.publish_model(ModelCard(name, "chat", f"chat.{name}"))
    with client_of(web) as client:
        names = [model.id for model in client.models.list()]
    assert names == ["SmolLM2-135M-Instruct", "another", "tiny", "matte"]


def test_adapter_is_a_model_in_the_queue_of_its_parent(web: Web) -> None:
    card = ModelCard("tiny", "chat", CHAT, CONTEXT_LENGTH, digest="1", adapters=("sql",))
    web.registry.publish_model(card)
    with client_of(web) as client:
        listed = {model.id: model.model_extra or {} for model in client.models.list()}
        assert [*listed] == ["tiny", "sql", "matte"]
        assert (listed["sql"]["root"], listed["sql"]["parent"]) == ("sql", "tiny")
        assert (listed["tiny"]["root"], listed["tiny"]["parent"]) == ("tiny", None)
    with pending_completion(web, model="sql") as (job_id, future):
        record = web.ledger.get(job_id)
        assert (record.queue, record.adapter, web.job(job_id)["model"]) == (CHAT, "sql", "sql")
        answer(web, job_id)
        assert future.result(TIMEOUT_S).model == "sql"
    assert web.job(web.submit())["model"] == "tiny"  # a job that names no model gets no adapter
    created = web.http.post("/v1/responses", json={"model": "sql", "input": "Hi", "background": True}).json()
    assert web.http.get(f"/v1/responses/{created['id']}").json()["model"] == "sql"


def test_models_are_listed_and_retrieved(web: Web) -> None:
    with client_of(web) as client:
        listed = {model.id: model for model in client.models.list()}
        assert [*listed] == ["tiny", "matte"]
        assert listed["tiny"].owned_by == "stoker"
        extra = listed["tiny"].model_extra or {}
        assert (extra["root"], extra["parent"], extra["permission"]) == ("tiny", None, [])
        assert client.models.retrieve("tiny") == listed["tiny"]
        for name in ("gpt-5", "meta-llama/Llama-3"):
            with pytest.raises(openai.NotFoundError) as caught:
                client.models.retrieve(name)
            assert caught.value.code == "model_not_found"


def test_stream_works_with_async_client(web: Web) -> None:
    async def chat() -> str:
        async with openai.AsyncOpenAI(base_url=url_of(web), api_key="none", max_retries=0) as client:
            stream = await client.chat.completions.create(model="tiny", messages=HI, stream=True)
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(asyncio.run, chat())
        answer(web, new_job(web, future))
        assert future.result(TIMEOUT_S) == "".join(ANSWER)


def test_completion_concurrent_clients_get_own_answers(web: Web) -> None:
    with client_of(web) as client, ThreadPoolExecutor(8) as pool:
        futures = {
            n: pool.submit(
                request_completion, client, messages=[{"role": "user", "content": str(n)}], stream=bool(n % 2)
            )
            for n in range(8)
        }
        for _ in futures:
            job_id = new_job(web)
            text = (f"answer {spec_of(web, job_id).messages[0].content}",)
            web.worker.claim(job_id)
            web.worker.append(job_id, *answer_tokens(text), success_event(text))
        for n, future in futures.items():
            got = future.result(TIMEOUT_S)
            text = (got[0].choices[0].delta if n % 2 else got.choices[0].message).content
            assert text == f"answer {n}"
