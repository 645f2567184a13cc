"""Pydantic AI's agents."""

import asyncio
from typing import Any, Literal

from pydantic import BaseModel
from pydantic_ai import Agent, ModelHTTPError, NativeOutput, ToolOutput
from pydantic_ai.messages import ModelRequest, ModelResponse, ToolCallPart, UserPromptPart
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from tests.clients.programs.checks import JAPAN, LONG, Checks, Target, error_of

checks = Checks("pydantic-ai-slim")


class Weather(BaseModel):
    """The weather of a city for some days."""

    city: Literal["Tokyo", "Oslo"]
    days: Literal[1, 2, 3]


class Reminder(BaseModel):
    """A reminder of something in some days."""

    days: Literal[1, 2, 3]


def agent_of(target: Target, model: str | None = None, **options: Any) -> Any:
    """Return an agent that asks once."""
    provider = OpenAIProvider(base_url=target.base_url, api_key="none")
    common = {"temperature": 0, "max_tokens": 96, "parallel_tool_calls": False}
    settings = common | options.pop("model_settings", {})
    return Agent(
        OpenAIChatModel(model or target.model, provider=provider), model_settings=settings, **options
    )


@checks.feature("chat")
def check_chat(target: Target) -> None:
    assert "Tokyo" in agent_of(target).run_sync(JAPAN).output


@checks.feature("stream")
def check_stream(target: Target) -> None:
    result = agent_of(target).run_stream_sync(JAPAN)
    pieces = list(result.stream_text(delta=True, debounce_by=None))
    assert len(pieces) > 1, pieces
    assert "".join(pieces) == agent_of(target).run_sync(JAPAN).output


@checks.feature("usage in a stream")
def check_usage(target: Target) -> None:
    result = agent_of(target).run_stream_sync(JAPAN)
    assert result.get_output()
    assert result.usage.input_tokens > 0 < result.usage.output_tokens


@checks.feature("sampling parameters")
def check_sampling(target: Target) -> None:
    settings = {
        "temperature": 1.5,
        "seed": 7,
        "presence_penalty": 0.5,
        "frequency_penalty": 0.5,
        "logit_bias": {"5": -100},
        "extra_body": {"top_k": 20, "min_p": 0.02},
    }
    first, second = (agent_of(target, model_settings=settings).run_sync(JAPAN).output for _ in range(2))
    assert first == second != agent_of(target).run_sync(JAPAN).output


@checks.feature("log-probabilities")
def check_logprobs(target: Target) -> None:
    settings = {"openai_logprobs": True, "openai_top_logprobs": 2}
    details = agent_of(target, model_settings=settings).run_sync(JAPAN).response.provider_details
    assert details["logprobs"], details
    assert all(len(token["top_logprobs"]) == 2 for token in details["logprobs"])


@checks.feature("JSON schema")
def check_schema(target: Target) -> None:
    answer = agent_of(target, output_type=NativeOutput(Weather)).run_sync(JAPAN).output
    assert isinstance(answer, Weather), answer


@checks.feature("required tool")
def check_required(target: Target) -> None:
    """An output tool is required, because the agent may not answer with text."""
    answer = agent_of(target, output_type=ToolOutput(Weather)).run_sync(JAPAN).output
    assert isinstance(answer, Weather), answer


def agent_with_tool(target: Target, called: list[str]) -> Any:
    """Return an agent with a tool that it may call or not."""

    def get_weather(city: Literal["Tokyo", "Oslo"]) -> str:
        """Tell the weather of a city."""
        called.append(city)
        return "sunny"

    return agent_of(target, tools=[get_weather])


@checks.feature("named tool")
def check_named(target: Target) -> None:
    outputs = [ToolOutput(Weather, name="weather"), ToolOutput(Reminder, name="reminder")]
    named = {"tool_choice": ["weather"]}
    answer = agent_of(target, output_type=outputs, model_settings=named).run_sync(JAPAN).output
    assert isinstance(answer, Weather), answer


@checks.feature("optional tool")
def check_auto(target: Target) -> str:
    called: list[str] = []
    assert agent_with_tool(target, called).run_sync(JAPAN).output
    return "the model called the tool" if called else "the model did not call the tool"


@checks.feature("tool call in a stream")
def check_streamed_tool(target: Target) -> None:
    result = agent_of(target, output_type=ToolOutput(Weather)).run_stream_sync(JAPAN)
    outputs = list(result.stream_output(debounce_by=None))
    assert isinstance(outputs[-1], Weather), outputs


@checks.feature("result of a tool")
def check_tool_result(target: Target) -> None:
    """The agent calls its tool first, because the history ends with a call."""
    called: list[str] = []
    call = ToolCallPart("get_weather", {"city": "Oslo"})
    history = [ModelRequest([UserPromptPart(JAPAN)]), ModelResponse([call])]
    assert agent_with_tool(target, called).run_sync(message_history=history).output
    assert called == ["Oslo"]


@checks.feature("unknown model")
def check_unknown_model(target: Target) -> None:
    error = error_of(ModelHTTPError, lambda: agent_of(target, "no-such-model").run_sync(JAPAN))
    assert (error.status_code, error.body["code"]) == (404, "model_not_found"), error


@checks.feature("prompt too long")
def check_long_prompt(target: Target) -> None:
    error = error_of(ModelHTTPError, lambda: agent_of(target).run_sync(LONG))
    assert (error.status_code, error.body["code"]) == (400, "context_length_exceeded"), error


@checks.feature("cancel by closing the stream")
def check_cancel(target: Target) -> None:
    async def cancel() -> None:
        endless = {"max_tokens": 2000, "extra_body": {"ignore_eos": True}}
        async with agent_of(target, model_settings=endless).run_stream(JAPAN) as result:
            await anext(result.stream_text(delta=True, debounce_by=None))
            await result.cancel()

    asyncio.run(cancel())
    target.wait_until_canceled()


checks.lacks("several choices", "an agent reads the first choice only")

if __name__ == "__main__":
    checks.main()
