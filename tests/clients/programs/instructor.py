"""instructor, on top of OpenAI's Python client."""

from typing import Any, Literal

import instructor
from openai import BadRequestError, NotFoundError, OpenAI
from pydantic import BaseModel

from tests.clients.programs.checks import LONG_PROMPT, PROMPT, Checks, Target, error_of

checks = Checks("instructor")


class Weather(BaseModel):
    """The weather of a city for some days."""

    city: Literal["Tokyo", "Oslo"]
    days: Literal[1, 2, 3]


def client_of(target: Target, mode: instructor.Mode = instructor.Mode.TOOLS) -> Any:
    """Return instructor's client."""
    client = OpenAI(base_url=target.base_url, api_key="none", max_retries=0)
    return instructor.from_openai(client, mode=mode, model=target.model)


def create(target: Target, mode: instructor.Mode = instructor.Mode.TOOLS, **request: Any) -> Any:
    """Ask for a `Weather`, and return it."""
    return client_of(target, mode).create(**request_of(**request))


def request_of(**request: Any) -> dict[str, Any]:
    """Return the request with the common fields, if it lacks them."""
    sampling = {"temperature": 0, "max_completion_tokens": 96}
    return {"response_model": Weather, "messages": PROMPT, **sampling} | request


@checks.feature("chat")
def check_chat(target: Target) -> None:
    answer = create(target, response_model=None)
    assert "Tokyo" in answer.choices[0].message.content


@checks.feature("stream")
def check_stream(target: Target) -> None:
    chunks = list(create(target, response_model=None, stream=True))
    assert "Tokyo" in "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


@checks.feature("usage in a stream")
def check_usage(target: Target) -> None:
    options = {"stream": True, "stream_options": {"include_usage": True}}
    *_, last = create(target, response_model=None, **options)
    assert last.usage.completion_tokens > 0


@checks.feature("sampling parameters")
def check_sampling(target: Target) -> None:
    options = {"temperature": 1.5, "seed": 7, "presence_penalty": 0.5, "extra_body": {"top_k": 20}}
    first, second = (create(target, response_model=None, **options).choices[0] for _ in range(2))
    assert first == second != create(target, response_model=None).choices[0]


@checks.feature("log-probabilities")
def check_logprobs(target: Target) -> None:
    answer = create(target, response_model=None, logprobs=True, top_logprobs=2)
    assert len(answer.choices[0].logprobs.content[0].top_logprobs) == 2


@checks.feature("several choices")
def check_choices(target: Target) -> None:
    assert len(create(target, response_model=None, n=3, seed=1).choices) == 3


@checks.feature("JSON schema")
def check_schema(target: Target) -> None:
    assert isinstance(create(target, instructor.Mode.JSON_SCHEMA), Weather)
    *_, last = client_of(target, instructor.Mode.JSON_SCHEMA).create_partial(**request_of())
    assert last.city in ("Tokyo", "Oslo")


@checks.feature("named tool")
def check_named(target: Target) -> None:
    weather, completion = client_of(target).create_with_completion(**request_of())
    assert isinstance(weather, Weather)
    assert completion.choices[0].message.tool_calls[0].function.name == "Weather"


@checks.feature("tool call in a stream")
def check_streamed_tool(target: Target) -> None:
    parts = list(client_of(target).create_partial(**request_of()))
    assert len(parts) > 1, parts
    assert parts[-1].city in ("Tokyo", "Oslo")


@checks.feature("unknown model")
def check_unknown_model(target: Target) -> None:
    error = error_of(NotFoundError, lambda: create(target, response_model=None, model="no-such-model"))
    assert error.code == "model_not_found"


@checks.feature("prompt too long")
def check_long_prompt(target: Target) -> None:
    error = error_of(
        BadRequestError,
        lambda: create(target, response_model=None, messages=LONG_PROMPT),
    )
    assert error.code == "context_length_exceeded", error.code


@checks.feature("cancel by closing the stream")
def check_cancel(target: Target) -> None:
    endless = {"max_completion_tokens": 2000, "extra_body": {"ignore_eos": True}}
    stream = create(target, response_model=None, stream=True, **endless)
    next(iter(stream))
    stream.close()
    target.wait_until_canceled()


for name in ("required tool", "optional tool"):
    checks.lacks(name, "it names the tool that it makes of the response model")
checks.lacks("result of a tool", "it runs no tools")

if __name__ == "__main__":
    checks.main()
