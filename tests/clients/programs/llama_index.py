"""LlamaIndex's `OpenAILike`."""

import gc
from typing import Any, Literal

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike
from openai import BadRequestError, NotFoundError
from pydantic import BaseModel

from tests.clients.programs.checks import JAPAN, LONG, Checks, Target, check_weather, error_of

checks = Checks("llama-index-llms-openai-like")
QUESTION = ChatMessage(JAPAN)


class Weather(BaseModel):
    """The weather of a city for some days."""

    city: Literal["Tokyo", "Oslo"]
    days: Literal[1, 2, 3]


def get_weather(city: Literal["Tokyo", "Oslo"], days: Literal[1, 2, 3]) -> str:
    """Tell the weather of a city."""
    return f"{city}: sunny for {days} days"


TOOLS = [FunctionTool.from_defaults(get_weather)]


def model_of(target: Target, **options: Any) -> Any:
    """Return LlamaIndex's model. It sends a request once."""
    defaults = {"model": target.model, "temperature": 0, "max_tokens": 96, "max_retries": 0}
    kinds = {"is_chat_model": True, "is_function_calling_model": True}
    return OpenAILike(api_base=target.base_url, api_key="none", **kinds, **defaults | options)


def text_of(target: Target, **options: Any) -> str:
    """Return the model's answer to the question."""
    return str(model_of(target, **options).chat([QUESTION]).message.content)


@checks.feature("chat")
def check_chat(target: Target) -> None:
    assert "Tokyo" in text_of(target)


@checks.feature("stream")
def check_stream(target: Target) -> None:
    pieces = [part.delta or "" for part in model_of(target).stream_chat([QUESTION])]
    assert "".join(pieces) == text_of(target), pieces
    assert len(pieces) > 1, pieces


@checks.feature("usage in a stream")
def check_usage(target: Target) -> None:
    options = {"stream_options": {"include_usage": True}}
    *_, last = model_of(target, additional_kwargs=options).stream_chat([QUESTION])
    usage = last.raw.usage
    assert usage.completion_tokens > 0
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


@checks.feature("sampling parameters")
def check_sampling(target: Target) -> None:
    options = {
        "seed": 7,
        "presence_penalty": 0.5,
        "frequency_penalty": 0.5,
        "logit_bias": {"5": -100},
        "extra_body": {"top_k": 20, "min_p": 0.02},
    }
    first, second = (text_of(target, temperature=1.5, additional_kwargs=options) for _ in range(2))
    assert first == second != text_of(target)


@checks.feature("log-probabilities")
def check_logprobs(target: Target) -> None:
    answer = model_of(target, logprobs=True, top_logprobs=2).chat([QUESTION])
    assert answer.logprobs
    assert all(len(token) == 2 for token in answer.logprobs)


@checks.feature("JSON schema")
def check_schema(target: Target) -> None:
    model = model_of(target, should_use_structured_outputs=True)
    answer = model.structured_predict(Weather, PromptTemplate(JAPAN))
    assert isinstance(answer, Weather), answer


@checks.feature("required tool")
def check_required(target: Target) -> None:
    model = model_of(target)
    answer = model.chat_with_tools(TOOLS, user_msg=JAPAN, tool_required=True)
    check_weather(model.get_tool_calls_from_response(answer)[0].tool_kwargs)
    structured = model.structured_predict(Weather, PromptTemplate(JAPAN))
    assert isinstance(structured, Weather), structured


@checks.feature("named tool")
def check_named(target: Target) -> None:
    model = model_of(target)
    answer = model.chat_with_tools(TOOLS, user_msg=JAPAN, tool_choice="get_weather")
    check_weather(model.get_tool_calls_from_response(answer)[0].tool_kwargs)


@checks.feature("optional tool")
def check_auto(target: Target) -> None:
    message = model_of(target).chat_with_tools(TOOLS, user_msg=JAPAN).message
    assert message.blocks, message


@checks.feature("tool call in a stream")
def check_streamed_tool(target: Target) -> None:
    model = model_of(target)
    parts = list(model.stream_chat_with_tools(TOOLS, user_msg=JAPAN, tool_required=True))
    assert len(parts) > 1, parts
    check_weather(model.get_tool_calls_from_response(parts[-1])[0].tool_kwargs)


@checks.feature("result of a tool")
def check_tool_result(target: Target) -> None:
    model = model_of(target)
    first = model.chat_with_tools(TOOLS, user_msg=JAPAN, tool_required=True)
    call = model.get_tool_calls_from_response(first)[0]
    result = ChatMessage("sunny", role="tool", additional_kwargs={"tool_call_id": call.tool_id})
    assert model.chat([QUESTION, first.message, result]).message.content


@checks.feature("unknown model")
def check_unknown_model(target: Target) -> None:
    error = error_of(NotFoundError, lambda: text_of(target, model="no-such-model"))
    assert error.code == "model_not_found"


@checks.feature("prompt too long")
def check_long_prompt(target: Target) -> None:
    error = error_of(BadRequestError, lambda: model_of(target).chat([ChatMessage(LONG)]))
    assert error.code == "context_length_exceeded", error.code


@checks.feature("cancel by closing the stream")
def check_cancel(target: Target) -> str:
    endless = {"extra_body": {"ignore_eos": True}}
    stream = model_of(target, max_tokens=2000, additional_kwargs=endless).stream_chat([QUESTION])
    next(stream)
    stream.close()
    del stream
    gc.collect()
    target.wait_until_canceled()
    return "it closes the connection when Python collects its garbage"


checks.lacks("several choices", "an answer has one message")

if __name__ == "__main__":
    checks.main()
