"""LiteLLM's `completion`, with the provider `openai` for OpenAI-compatible APIs."""

import os
from typing import Any, Literal

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # it fetches nothing

import litellm
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

checks = Checks("litellm")


class Weather(BaseModel):
    """The answer that a JSON schema asks for."""

    city: Literal["Tokyo", "Oslo"]
    days: Literal[1, 2, 3]


def create(target: Target, model: str | None = None, **request: Any) -> Any:
    """Send a chat request once."""
    request = {"messages": PROMPT, "temperature": 0, "max_tokens": 96, "max_retries": 0} | request
    name = f"openai/{model or target.model}"
    return litellm.completion(name, api_base=target.base_url, api_key="none", **request)


@checks.feature("chat")
def check_chat(target: Target) -> None:
    assert "Tokyo" in create(target).choices[0].message.content


@checks.feature("stream")
def check_stream(target: Target) -> None:
    pieces = [chunk.choices[0].delta.content or "" for chunk in create(target, stream=True)]
    assert "".join(pieces) == create(target).choices[0].message.content, pieces
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
        "extra_body": {"top_k": 20, "min_p": 0.02},
    }
    first, second = (create(target, **request).choices[0].message.content for _ in range(2))
    assert first == second != create(target).choices[0].message.content


@checks.feature("log-probabilities")
def check_logprobs(target: Target) -> None:
    tokens = create(target, logprobs=True, top_logprobs=2).choices[0].logprobs.content
    assert tokens
    assert all(len(token.top_logprobs) == 2 for token in tokens)


@checks.feature("several choices")
def check_choices(target: Target) -> None:
    choices = create(target, n=3, temperature=1, seed=1).choices
    assert len(choices) == 3
    assert len({choice.message.content for choice in choices}) > 1


@checks.feature("JSON schema")
def check_schema(target: Target) -> None:
    answer = create(target, response_format=Weather)
    Weather.model_validate_json(answer.choices[0].message.content)


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
    message = create(target, tools=[WEATHER]).choices[0].message
    assert message.content or message.tool_calls


@checks.feature("tool call in a stream")
def check_streamed_tool(target: Target) -> None:
    chunks = list(create(target, **MUST_CALL, stream=True))
    assert sum(bool(chunk.choices[0].delta.tool_calls) for chunk in chunks) > 1, chunks
    whole: Any = litellm.stream_chunk_builder(chunks)
    weather_of(whole.choices[0].message.tool_calls[0].function.arguments)


@checks.feature("result of a tool")
def check_tool_result(target: Target) -> None:
    first = create(target, **MUST_CALL).choices[0].message
    result = {"role": "tool", "tool_call_id": first.tool_calls[0].id, "content": "It is sunny."}
    second = create(target, messages=[*PROMPT, first, result], tools=[WEATHER], tool_choice="none")
    assert second.choices[0].message.content


@checks.feature("unknown model")
def check_unknown_model(target: Target) -> None:
    error = error_of(litellm.NotFoundError, lambda: create(target, "no-such-model"))
    assert "no-such-model" in str(error)


@checks.feature("prompt too long")
def check_long_prompt(target: Target) -> str:
    error = error_of(
        litellm.ContextWindowExceededError,
        lambda: create(target, messages=LONG_PROMPT),
    )
    return f"raises `{type(error).__name__}`"


@checks.feature("cancel by closing the stream")
def check_cancel(target: Target) -> None:
    stream = create(target, stream=True, max_tokens=2000, extra_body={"ignore_eos": True})
    next(iter(stream))
    stream.completion_stream.close()
    target.wait_until_canceled()


if __name__ == "__main__":
    checks.main()
