"""OpenAI's Python client."""

import math
from typing import Any, Literal

from openai import BadRequestError, NotFoundError, OpenAI
from pydantic import BaseModel

from tests.clients.programs.checks import (
    LONG_PROMPT,
    MUST_CALL,
    PROMPT,
    WEATHER,
    Checks,
    Target,
    error_of,
    weather_of,
)

checks = Checks("openai")


class Place(BaseModel):
    """A part of the answer."""

    city: Literal["Tokyo", "Oslo"]


class Weather(BaseModel):
    """The answer that a JSON schema asks for."""

    place: Place
    days: Literal[1, 2, 3]
    wind: Literal["calm", "strong"] | None


def completions_of(target: Target) -> Any:
    """Return OpenAI's resource of chats. It sends a request once."""
    return OpenAI(base_url=target.base_url, api_key="none", max_retries=0).chat.completions


def request_of(target: Target) -> dict[str, Any]:
    """Return the common fields of all requests."""
    return {"model": target.model, "messages": PROMPT, "temperature": 0, "max_completion_tokens": 96}


def create(target: Target, **request: Any) -> Any:
    """Send a chat request and return its answer, or its stream."""
    return completions_of(target).create(**request_of(target) | request)


@checks.feature("chat")
def check_chat(target: Target) -> None:
    assert "Tokyo" in create(target).choices[0].message.content


@checks.feature("stream")
def check_stream(target: Target) -> None:
    whole = create(target).choices[0].message.content
    pieces = [chunk.choices[0].delta.content or "" for chunk in create(target, stream=True)]
    assert "".join(pieces) == whole, pieces
    assert len(pieces) > 1, pieces


@checks.feature("usage in a stream")
def check_usage(target: Target) -> None:
    *_, last = create(target, stream=True, stream_options={"include_usage": True})
    assert last.usage.completion_tokens > 0
    assert last.usage.total_tokens == last.usage.prompt_tokens + last.usage.completion_tokens


@checks.feature("sampling parameters")
def check_sampling(target: Target) -> None:
    request: dict[str, Any] = {
        "temperature": 1.5,
        "seed": 7,
        "presence_penalty": 0.5,
        "frequency_penalty": 0.5,
        "logit_bias": {"5": -100},
        "extra_body": {"top_k": 20, "min_p": 0.02, "repetition_penalty": 1.1},
    }
    first, second = (create(target, **request).choices[0].message.content for _ in range(2))
    assert first == second != create(target).choices[0].message.content


@checks.feature("log-probabilities")
def check_logprobs(target: Target) -> None:
    tokens = create(target, logprobs=True, top_logprobs=3).choices[0].logprobs.content
    assert all(len(token.top_logprobs) == 3 and math.exp(token.logprob) <= 1 for token in tokens)
    assert tokens[0].token == tokens[0].top_logprobs[0].token


@checks.feature("several choices")
def check_choices(target: Target) -> None:
    choices = create(target, n=3, temperature=1, seed=1).choices
    assert [choice.index for choice in choices] == [0, 1, 2]
    assert len({choice.message.content for choice in choices}) > 1


@checks.feature("JSON schema")
def check_parse(target: Target) -> None:
    request = request_of(target) | {"response_format": Weather}
    answer = completions_of(target).parse(**request)
    assert isinstance(answer.choices[0].message.parsed, Weather)


@checks.feature("required tool")
def check_required(target: Target) -> None:
    choice = create(target, **MUST_CALL).choices[0]
    assert choice.finish_reason == "tool_calls", choice
    weather_of(choice.message.tool_calls[0].function.arguments)


@checks.feature("named tool")
def check_named(target: Target) -> None:
    named = {"type": "function", "function": {"name": "get_weather"}}
    call = create(target, tools=[WEATHER], tool_choice=named).choices[0].message.tool_calls[0]
    assert call.function.name == "get_weather"
    weather_of(call.function.arguments)


@checks.feature("optional tool")
def check_auto(target: Target) -> None:
    assert create(target, tools=[WEATHER]).choices[0].finish_reason in ("stop", "tool_calls", "length")


@checks.feature("tool call in a stream")
def check_streamed_tool(target: Target) -> None:
    request = request_of(target) | MUST_CALL
    with completions_of(target).stream(**request) as stream:
        kinds = {event.type for event in stream}
        calls = stream.get_final_completion().choices[0].message.tool_calls
    assert "tool_calls.function.arguments.delta" in kinds, kinds
    assert calls
    weather_of(calls[0].function.arguments)


@checks.feature("result of a tool")
def check_tool_result(target: Target) -> None:
    first = create(target, **MUST_CALL).choices[0].message
    call = first.tool_calls[0]
    result = {"role": "tool", "tool_call_id": call.id, "content": "It is sunny, 21 degrees."}
    second = create(target, messages=[*PROMPT, first, result], tools=[WEATHER], tool_choice="none")
    assert second.choices[0].message.content


@checks.feature("text completion")
def check_text_completion(target: Target) -> None:
    completions = OpenAI(base_url=target.base_url, api_key="none", max_retries=0).completions
    request: dict[str, Any] = {"model": target.model, "temperature": 0, "max_tokens": 8}
    texts = ["One, two, three,", "1, 2, 3, 4,"]
    whole = completions.create(prompt=texts, logprobs=1, **request).choices
    assert " four" in whole[0].text, whole
    assert " 5" in whole[1].text, whole
    assert [len(choice.logprobs.tokens) for choice in whole] == [8, 8]
    echoed = completions.create(prompt=texts[0], echo=True, stream=True, **request)
    assert "".join(chunk.choices[0].text for chunk in echoed) == texts[0] + whole[0].text


@checks.feature("unknown model")
def check_unknown_model(target: Target) -> None:
    error = error_of(NotFoundError, lambda: create(target, model="no-such-model"))
    assert error.code == "model_not_found"


@checks.feature("prompt too long")
def check_long_prompt(target: Target) -> None:
    error = error_of(BadRequestError, lambda: create(target, messages=LONG_PROMPT))
    assert error.code == "context_length_exceeded", error.code


@checks.feature("cancel by closing the stream")
def check_cancel(target: Target) -> None:
    stream = create(target, stream=True, max_completion_tokens=2000, extra_body={"ignore_eos": True})
    next(iter(stream))
    stream.close()
    target.wait_until_canceled()


if __name__ == "__main__":
    checks.main()
