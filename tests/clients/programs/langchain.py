"""LangChain's `ChatOpenAI`."""

from typing import Any, Literal

from langchain_core.exceptions import ContextOverflowError
from langchain_core.messages import AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.tools import StructuredTool
from langchain_openai import ChatOpenAI
from openai import NotFoundError
from pydantic import BaseModel

from tests.clients.programs.checks import JAPAN, LONG, Checks, Target, check_weather, error_of

checks = Checks("langchain-openai")


class Weather(BaseModel):
    """The weather of a city for some days."""

    city: Literal["Tokyo", "Oslo"]
    days: Literal[1, 2, 3]


def get_weather(city: Literal["Tokyo", "Oslo"], days: Literal[1, 2, 3]) -> str:
    """Tell the weather of a city."""
    return f"{city}: sunny for {days} days"


TOOL = StructuredTool.from_function(get_weather)


def model_of(target: Target, **options: Any) -> Any:
    """Return LangChain's model, without retries."""
    defaults: dict[str, Any] = {"model": target.model, "temperature": 0, "max_tokens": 96, "max_retries": 0}
    return ChatOpenAI(base_url=target.base_url, api_key="none", **defaults | options)


def forced(target: Target) -> Any:
    """Return a model whose answers are one call of TOOL."""
    return model_of(target).bind_tools([TOOL], tool_choice="required", parallel_tool_calls=False)


@checks.feature("chat")
def check_chat(target: Target) -> None:
    assert "Tokyo" in model_of(target).invoke(JAPAN).content


@checks.feature("stream")
def check_stream(target: Target) -> None:
    pieces = [chunk.content for chunk in model_of(target).stream(JAPAN)]
    assert "".join(pieces) == model_of(target).invoke(JAPAN).content, pieces
    assert len(pieces) > 1, pieces


@checks.feature("usage in a stream")
def check_usage(target: Target) -> None:
    whole = AIMessageChunk(content="")
    for chunk in model_of(target, stream_usage=True).stream(JAPAN):
        whole += chunk
    usage = whole.usage_metadata
    assert usage
    assert usage["output_tokens"] > 0
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]


@checks.feature("sampling parameters")
def check_sampling(target: Target) -> None:
    options: dict[str, Any] = {
        "temperature": 1.5,
        "seed": 7,
        "presence_penalty": 0.5,
        "frequency_penalty": 0.5,
        "logit_bias": {5: -100},
        "extra_body": {"top_k": 20, "min_p": 0.02},
    }
    first, second = (model_of(target, **options).invoke(JAPAN).content for _ in range(2))
    assert first == second != model_of(target).invoke(JAPAN).content


@checks.feature("log-probabilities")
def check_logprobs(target: Target) -> None:
    answer = model_of(target, logprobs=True, top_logprobs=2).invoke(JAPAN)
    tokens = answer.response_metadata["logprobs"]["content"]
    assert tokens
    assert all(len(token["top_logprobs"]) == 2 for token in tokens)


@checks.feature("several choices")
def check_choices(target: Target) -> None:
    answers = model_of(target, n=3, temperature=1, seed=1).generate([[HumanMessage(JAPAN)]]).generations[0]
    assert len({answer.text for answer in answers}) > 1
    assert len(answers) == 3


@checks.feature("JSON schema")
def check_structured(target: Target) -> None:
    answer = model_of(target).with_structured_output(Weather, method="json_schema").invoke(JAPAN)
    assert isinstance(answer, Weather), answer


@checks.feature("required tool")
def check_required(target: Target) -> None:
    answer = forced(target).invoke(JAPAN)
    check_weather(answer.tool_calls[0]["args"])


@checks.feature("named tool")
def check_named(target: Target) -> None:
    answer = model_of(target).bind_tools([TOOL], tool_choice="get_weather").invoke(JAPAN)
    check_weather(answer.tool_calls[0]["args"])
    structured = model_of(target).with_structured_output(Weather, method="function_calling").invoke(JAPAN)
    assert isinstance(structured, Weather), structured


@checks.feature("optional tool")
def check_auto(target: Target) -> None:
    answer = model_of(target).bind_tools([TOOL]).invoke(JAPAN)
    assert answer.content or answer.tool_calls


@checks.feature("tool call in a stream")
def check_streamed_tool(target: Target) -> None:
    whole, pieces = AIMessageChunk(content=""), 0
    for chunk in forced(target).stream(JAPAN):
        pieces += bool(chunk.tool_call_chunks)
        whole += chunk
    assert pieces > 1, whole
    check_weather(whole.tool_calls[0]["args"])


@checks.feature("result of a tool")
def check_tool_result(target: Target) -> None:
    question = HumanMessage(JAPAN)
    call = forced(target).invoke([question])
    results = [TOOL.invoke(one) for one in call.tool_calls]
    assert all(isinstance(result, ToolMessage) for result in results), results
    assert model_of(target).bind_tools([TOOL], tool_choice="none").invoke([question, call, *results]).content


@checks.feature("unknown model")
def check_unknown_model(target: Target) -> None:
    error = error_of(NotFoundError, lambda: model_of(target, model="no-such-model").invoke(JAPAN))
    assert error.code == "model_not_found"


@checks.feature("prompt too long")
def check_long_prompt(target: Target) -> str:
    error = error_of(ContextOverflowError, lambda: model_of(target).invoke(LONG))
    return f"raises `{type(error).__name__}`"


@checks.feature("cancel by closing the stream")
def check_cancel(target: Target) -> None:
    stream = model_of(target, max_tokens=2000, extra_body={"ignore_eos": True}).stream(JAPAN)
    next(stream)
    stream.close()
    target.wait_until_canceled()


if __name__ == "__main__":
    checks.main()
