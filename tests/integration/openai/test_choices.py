"""Tests of completions with several choices, with OpenAI's Python client."""

from itertools import groupby
from typing import Any

import pytest

from tests.support.web.openai_clients import USAGE, pending_completion
from tests.support.web.webstack import TIMEOUT_S, Web, publish_able_model, tiny_template
from worker.jobs.events import Event, Succeeded, Token

#: The events of two choices, whose tokens come in turn. The second choice ends first, without any text.
EVENTS: list[Event] = [
    Token("To", 0, 1, choice=0),
    Token("", 0, 1, choice=1, finish_reason="stop"),
    Token("kyo", 1, 2, choice=0, finish_reason="length"),
]
CHOICES = [
    {"index": 0, "text": "Tokyo", "finish_reason": "length"},
    {"index": 1, "text": "", "finish_reason": "stop"},
]
RESULT = {"text": "Tokyo", "finish_reason": "length", "choices": CHOICES}


def complete(web: Web, *events: Event, **request: Any) -> tuple[str, Any]:
    """Answer a request with these events and success. Return the job's id and the completion."""
    with pending_completion(web, model=publish_able_model(web), **request) as (job_id, future):
        web.worker.claim(job_id)
        result = RESULT if request.get("n") == 2 else {"text": "Tokyo", "finish_reason": "length"}
        web.worker.append(job_id, *events, Succeeded(result, USAGE), result=result, usage=USAGE)
        return job_id, future.result(TIMEOUT_S)


def test_completion_has_all_choices(web: Web) -> None:
    job_id, completion = complete(web, *EVENTS, n=2)
    assert web.ledger.get(job_id).parameters["n"] == 2
    assert [
        (choice.index, choice.message.content, choice.finish_reason) for choice in completion.choices
    ] == [
        (0, "Tokyo", "length"),
        (1, "", "stop"),
    ]
    assert completion.usage.to_dict() == USAGE


def test_completion_divides_logprobs_by_choice(web: Web) -> None:
    entries: list[Any] = [
        {"token": text, "logprob": -1.0, "bytes": list(text.encode()), "top_logprobs": []} for text in "abc"
    ]
    events = [Token(entries[n]["token"], 0, 1, logprobs=[entries[n]], choice=n % 2) for n in range(3)]
    _, completion = complete(web, *events, n=2, logprobs=True)
    tokens = [[entry.token for entry in choice.logprobs.content] for choice in completion.choices]
    assert tokens == [["a", "c"], ["b"]]


def test_stream_has_role_and_end_of_each_choice(web: Web) -> None:
    _, chunks = complete(web, *EVENTS, n=2, stream=True, stream_options={"include_usage": True})
    *chunks, usage = chunks
    assert (usage.choices, usage.usage.to_dict()) == ([], USAGE)
    choices = sorted((chunk.choices[0] for chunk in chunks), key=lambda choice: choice.index)
    seen = {index: list(group) for index, group in groupby(choices, key=lambda choice: choice.index)}
    assert [(c.delta.role, c.delta.content, c.finish_reason) for c in seen[0]] == [
        ("assistant", "To", None),
        (None, "kyo", "length"),
    ]
    assert [(c.delta.role, c.delta.content, c.finish_reason) for c in seen[1]] == [("assistant", "", "stop")]


@pytest.mark.parametrize("n", [1, 2])
def test_stream_has_continuous_usage_of_each_choice(web: Web, n: int) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    events = EVENTS if n == 2 else [Token("To", 0, 1), Token("kyo", 1, 1)]
    _, chunks = complete(web, *events, n=n, stream=True, stream_options=options)
    *chunks, last = chunks
    assert (last.choices, last.usage.to_dict()) == ([], USAGE)
    counts = [
        (chunk.choices[0].index, chunk.usage.prompt_tokens, chunk.usage.completion_tokens) for chunk in chunks
    ]
    prompt = len(tiny_template().encode([{"role": "user", "content": "Hi"}]))
    wanted = [(0, 1), (1, 1), (0, 3)] if n == 2 else [(0, 1), (0, 2), (0, USAGE["completion_tokens"])]
    assert counts == [(index, prompt, tokens) for index, tokens in wanted]
    assert all(chunk.usage.total_tokens == prompt + chunk.usage.completion_tokens for chunk in chunks)


@pytest.mark.parametrize("stream", [False, True])
def test_token_ids_are_those_of_vllm(web: Web, stream: bool) -> None:
    """The end-of-text token has no text. It comes in the last chunk of its choice."""
    first = Token("To", 0, 1, token_ids=[5], prompt_token_ids=[1, 2], choice=0)
    other = Token("", 0, 1, token_ids=[9], choice=1, finish_reason="stop")
    last = Token("kyo", 1, 2, token_ids=[6, 9], choice=0, finish_reason="stop")
    asked = {"n": 2, "stream": stream, "extra_body": {"return_token_ids": True}}
    _, answered = complete(web, first, other, last, **asked)
    if stream:
        assert [chunk.choices[0].token_ids for chunk in answered] == [[5], [9], [6, 9]]
        assert [getattr(chunk, "prompt_token_ids", None) for chunk in answered] == [[1, 2], None, None]
    else:
        assert [choice.token_ids for choice in answered.choices] == [[5, 6, 9], [9]]
        assert answered.prompt_token_ids == [1, 2]


def test_stream_of_one_choice_ends_once_with_token_ids(web: Web) -> None:
    events = Token("Tokyo", 0, 1, token_ids=[5]), Token("", 1, 1, token_ids=[9], finish_reason="length")
    _, chunks = complete(web, *events, stream=True, extra_body={"return_token_ids": True})
    assert [(chunk.choices[0].finish_reason, chunk.choices[0].token_ids) for chunk in chunks] == [
        (None, [5]),
        ("length", [9]),
    ]


def test_native_result_has_all_choices(web: Web) -> None:
    job_id, _ = complete(web, *EVENTS, n=2)
    result = web.http.get(f"/v1/jobs/{job_id}/result").json()
    assert (result["text"], result["finish_reason"]) == ("Tokyo", "length")
    assert [choice["message"]["content"] for choice in result["choices"]] == ["Tokyo", ""]
    events = [event for event in web.ledger.events(job_id) if event.type == "token"]
    assert [event.data["choice"] for event in events] == [0, 1, 0]


@pytest.mark.parametrize("n", [0, 9, 1.5])
def test_number_of_choices_is_limited(web: Web, n: float) -> None:
    body = {"messages": [{"role": "user", "content": "Hi"}], "n": n}
    for path, status in (("/v1/chat/completions", 400), ("/v1/jobs/chat", 422)):
        response = web.http.post(path, json=body)
        assert response.status_code == status
        assert "n" in response.text
