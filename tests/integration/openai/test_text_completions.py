"""`/v1/completions` for OpenAI's client: the texts that continue prompts, whole and as streams."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import openai
import pytest

from tests.support.stack import eventually
from tests.support.web.openai_clients import ANSWER, USAGE, answer_tokens, client_of, new_job, success_event
from tests.support.web.webstack import TIMEOUT_S, Web, publish_able_model
from worker.jobs.events import Failed, Succeeded, Token
from worker.jobs.specs import ChatJob

TEXT = "".join(ANSWER)
TOP = [{"token": "b", "logprob": -0.5, "bytes": [98]}, {"token": "c", "logprob": -1.5, "bytes": [99]}]
LOGPROBS: Any = [{"token": "a", "logprob": -2.0, "bytes": [97], "top_logprobs": TOP}]


@pytest.fixture
def able(web: Web) -> Web:
    publish_able_model(web)
    return web


@contextmanager
def pending(web: Web, jobs: int = 1, **request: Any) -> Iterator[tuple[list[str], "Future[Any]"]]:
    """Send a request in a thread; yield the ids of its jobs, oldest first, and the future of its answer."""

    def ask() -> Any:
        answer = client.completions.create(**{"model": "able", "prompt": "Once"} | request)
        return list(answer) if request.get("stream") else answer

    with client_of(web) as client, ThreadPoolExecutor(1) as pool:
        future = pool.submit(ask)
        new_job(web, future)
        eventually(lambda: len(web.ledger.page()) == jobs, "all jobs", TIMEOUT_S)
        yield [record.id for record in reversed(web.ledger.page())], future


def answer(web: Web, job_id: str, *tokens: Token, **result: Any) -> None:
    web.worker.claim(job_id)
    success = success_event() if not tokens else Succeeded({"finish_reason": "stop"} | result, USAGE)
    web.worker.append(
        job_id, *(tokens or answer_tokens()), success, usage=success.usage, result=success.result
    )


def test_text_completion_whole_is_that_of_raw_prompt(able: Web) -> None:
    request: dict[str, Any] = {"temperature": 0.5, "stop": "\n", "seed": 3, "extra_body": {"top_k": 4}}
    with pending(able, **request) as ((job_id,), future):
        spec = able.ledger.get(job_id).spec
        answer(able, job_id)
        completion = future.result(TIMEOUT_S)
    assert spec == ChatJob(
        model="able", prompt="Once", max_tokens=16, temperature=0.5, stop=["\n"], seed=3, top_k=4
    )
    assert (completion.id, completion.object, completion.model) == (
        f"cmpl-{job_id}",
        "text_completion",
        "able",
    )
    (choice,) = completion.choices
    assert (choice.text, choice.index, choice.finish_reason, choice.logprobs) == (TEXT, 0, "stop", None)
    assert completion.usage.model_dump(exclude_none=True) == USAGE


def test_text_completion_stream_ends_with_reason_and_usage(able: Web) -> None:
    with pending(able, stream=True, stream_options={"include_usage": True}) as ((job_id,), future):
        answer(able, job_id)
        *parts, end, last = future.result(TIMEOUT_S)
    assert [chunk.choices[0].text for chunk in parts] == [*ANSWER]
    assert {chunk.usage for chunk in (*parts, end)} == {None}
    assert (end.choices[0].text, end.choices[0].finish_reason) == ("", "stop")
    assert (last.choices, last.usage.model_dump(exclude_none=True)) == ([], USAGE)


def test_text_completion_stream_has_usage_so_far(able: Web) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    with pending(able, stream=True, stream_options=options) as ((job_id,), future):
        answer(able, job_id)
        *parts, _ = future.result(TIMEOUT_S)
    assert [chunk.usage.prompt_tokens for chunk in parts] == [len("Once")] * 4
    assert [chunk.usage.completion_tokens for chunk in parts] == [1, 2, 3, 3]


@pytest.mark.parametrize("stream", [False, True])
def test_text_completion_of_several_prompts_has_choices_in_their_order(able: Web, stream: bool) -> None:
    with pending(able, 2, prompt=["One", "Two"], n=2, echo=True, stream=stream) as (jobs, future):
        assert [able.ledger.get(job).spec.prompt for job in jobs] == ["One", "Two"]  # type: ignore[attr-defined]
        for name, job_id in reversed([*zip("ab", jobs, strict=True)]):
            tokens = [Token(f"{name}{i}", 0, 1, choice=i, finish_reason="length") for i in (1, 0)]
            choices = [{"index": i, "text": f"{name}{i}", "finish_reason": "length"} for i in (0, 1)]
            answer(able, job_id, *tokens, **choices[0], choices=choices)
        found = future.result(TIMEOUT_S)
    shown = [choice for chunk in found for choice in chunk.choices] if stream else found.choices
    texts = {choice.index: (choice.text, choice.finish_reason) for choice in shown}
    assert texts == {
        index: (text, "length") for index, text in enumerate(["Onea0", "Onea1", "Twob0", "Twob1"])
    }
    if not stream:
        assert [choice.index for choice in shown] == [0, 1, 2, 3]
        assert found.usage.completion_tokens == 2 * 3


def test_text_completion_takes_token_ids_and_echoes_their_text(able: Web) -> None:
    with pending(able, prompt=[0, 0], echo=True) as ((job_id,), future):
        assert able.ledger.get(job_id).spec.prompt == [0, 0]  # type: ignore[attr-defined]
        answer(able, job_id)
        assert future.result(TIMEOUT_S).choices[0].text == "? ?" + TEXT


@pytest.mark.parametrize("stream", [False, True])
def test_text_completion_logprobs_have_offsets(able: Web, stream: bool) -> None:
    with pending(able, logprobs=2, stream=stream) as ((job_id,), future):
        spec = able.ledger.get(job_id).spec
        assert isinstance(spec, ChatJob)
        assert (spec.logprobs, spec.top_logprobs) == (True, 2)
        answer(
            able, job_id, Token("a", 0, 1, logprobs=LOGPROBS), Token("a", 1, 1, logprobs=LOGPROBS), text="aa"
        )
        found = future.result(TIMEOUT_S)
    parts = [chunk.choices[0].logprobs for chunk in found[:2]] if stream else [found.choices[0].logprobs]
    assert [token for part in parts for token in part.tokens] == ["a", "a"]
    assert [offset for part in parts for offset in part.text_offset] == [0, 1]
    assert [value for part in parts for value in part.token_logprobs] == [-2.0, -2.0]
    assert parts[0].top_logprobs[0] == {"a": -2.0, "b": -0.5, "c": -1.5}


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        ({"prompt": None}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": ["a", [1]]}, "prompt"),
        ({"prompt": ["a"] * 65}, "prompt"),
        ({"prompt": [7]}, "prompt"),
        ({"prompt": [[0], [7]]}, "prompt"),
        ({"prompt": "x" * 100}, "prompt"),
        ({"echo": True, "logprobs": 1}, "echo"),
        ({"logprobs": 21}, "logprobs"),
        ({"suffix": "end"}, "suffix"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"temperature": 3}, "temperature"),
        ({"best_of": 2}, "best_of"),
        ({"extra_body": {"tools": [{"type": "function", "function": {"name": "a"}}]}}, "prompt"),
    ],
)
def test_text_completion_refuses_by_name(able: Web, request_: dict[str, Any], field: str) -> None:
    with client_of(able) as client, pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(**{"model": "able", "prompt": "Once"} | request_)
    assert caught.value.param == field
    assert {record.state for record in able.ledger.page()} <= {"canceled"}


def test_text_completion_needs_worker_that_takes_raw_prompts(web: Web) -> None:
    with client_of(web) as client, pytest.raises(openai.BadRequestError, match="engine of tiny") as caught:
        client.completions.create(model="tiny", prompt="Once")
    assert caught.value.param == "prompt"
    with client_of(web) as client, pytest.raises(openai.NotFoundError):
        client.completions.create(model="gpt-5", prompt="Once")
    assert web.is_untouched()


def test_text_completion_failure_of_one_prompt_cancels_the_others(able: Web) -> None:
    with pending(able, 3, prompt=["One", "Two", "Three"]) as (jobs, future):
        answer(able, jobs[0])
        able.worker.claim(jobs[1])
        error = {"code": "timeout", "message": "It took too long."}
        able.worker.append(jobs[1], Failed(**error), error=error)
        with pytest.raises(openai.APIStatusError, match="too long"):
            future.result(TIMEOUT_S)
        assert eventually(lambda: able.ledger.get(jobs[2]).state == "canceled", "the cancel", TIMEOUT_S)


def test_text_completion_disconnect_cancels_all_prompts(able: Web) -> None:
    request: dict[str, Any] = {"model": "able", "prompt": ["One", "Two"], "stream": True}
    with client_of(able) as client, ThreadPoolExecutor(1) as pool:
        create: Any = client.completions.create
        future = pool.submit(create, **request)
        eventually(lambda: len(able.ledger.page()) == 2, "both jobs", TIMEOUT_S)
        second, first = (record.id for record in able.ledger.page())
        able.worker.claim(first)
        able.worker.append(first, *answer_tokens())
        stream = future.result(TIMEOUT_S)
        assert next(iter(stream)).choices[0].text == ANSWER[0]
        stream.close()
        eventually(lambda: able.worker.append(first) == "cancel", "the cancel", TIMEOUT_S)
        eventually(lambda: able.ledger.get(second).state == "canceled", "the other cancel", TIMEOUT_S)
