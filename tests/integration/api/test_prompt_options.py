"""Options of the prompt and messages of tools, in both APIs."""

from typing import Any

import pytest

from tests.support.web.openai_clients import answer, pending_completion
from tests.support.web.webstack import HELLO, Web, assert_refused, tiny_template
from worker.jobs.cards import ModelCard
from worker.jobs.chat.sampling import COMMON_PARAMETERS
from worker.jobs.prompt.template import PROMPT_FEATURES
from worker.jobs.specs import ChatJob

USER = {"role": "user", "content": "Hi"}
CALLS = [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
CALL = {"role": "assistant", "content": None, "tool_calls": CALLS}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "4"}
CONTEXT = 256
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


@pytest.fixture
def able(web: Web) -> str:
    """The name of a model whose worker renders all options."""
    features = tuple(COMMON_PARAMETERS | PROMPT_FEATURES)
    card = ModelCard("renderer", "chat", "chat.renderer", CONTEXT, digest="1", sampling=features)
    web.registry.publish_model(card, tiny_template().to_json())
    return card.name


@pytest.mark.parametrize(
    ("field", "body"),
    [
        ("continue_final_message", {"continue_final_message": True}),
        ("add_generation_prompt", {"add_generation_prompt": False}),
        ("chat_template_kwargs", {"chat_template_kwargs": {"enable_thinking": False}}),
        ("truncate_prompt_tokens", {"truncate_prompt_tokens": 5}),
        ("messages.tool_calls", {"messages": [USER, CALL]}),
        ("messages.tool_call_id", {"messages": [USER, RESULT]}),
        ("messages.reasoning", {"messages": [{"role": "assistant", "content": "a", "reasoning": "Hm"}]}),
    ],
)
def test_option_reaches_a_worker_that_knows_it_and_is_refused_for_others(
    web: Web, able: str, field: str, body: dict[str, Any]
) -> None:
    response = web.http.post("/v1/jobs/chat", json=HELLO | body | {"model": "tiny"})
    assert assert_refused(web, response, 422, field).startswith(f"{field} is not supported")
    compatible = web.http.post("/v1/chat/completions", json=HELLO | body | {"model": "tiny"})
    assert (compatible.status_code, compatible.json()["error"]["param"]) == (400, field)
    job_id = web.submit(**(HELLO | body | {"model": able}))
    assert web.ledger.get(job_id).spec == ChatJob.model_validate(HELLO | body | {"model": able})


def test_truncated_prompt_fits_however_long_the_conversation_is(web: Web, able: str) -> None:
    long: dict[str, Any] = {"messages": [USER | {"content": "x" * 5 * CONTEXT}], "model": able}
    assert_refused(web, web.http.post("/v1/jobs/chat", json=long), 422, "messages")
    for limit in (-1, CONTEXT - 1):
        web.submit(**long, truncate_prompt_tokens=limit)
    response = web.http.post("/v1/jobs/chat", json=long | {"truncate_prompt_tokens": CONTEXT})
    assert (response.status_code, response.json()["field"]) == (422, "messages")


def test_variable_that_the_renderer_sets_is_refused(web: Web, able: str) -> None:
    body = HELLO | {"model": able, "chat_template_kwargs": {"messages": []}}
    assert_refused(web, web.http.post("/v1/jobs/chat", json=body), 422, "chat_template_kwargs")


def test_tools_that_the_model_never_sees_change_nothing(web: Web) -> None:
    """A worker that cannot read calls gets them only with `tool_choice` none."""
    assert_refused(web, web.http.post("/v1/jobs/chat", json=HELLO | {"tools": [TOOL]}), 422, "tools")
    web.submit(tools=[TOOL], tool_choice="none")


def test_history_of_a_client_reaches_the_job(web: Web, able: str) -> None:
    """OpenAI's client sends what it has received, with many nulls and with fields of newer versions."""
    received = CALL | {"refusal": None, "annotations": [], "audio": None, "function_call": None, "name": None}
    received |= {"reasoning": "Hm", "reasoning_content": "Hm"}
    cached = [{"type": "text", "text": "4", "cache_control": {"type": "ephemeral"}}]
    extra = {"reasoning_effort": "low", "parallel_tool_calls": False, "include_reasoning": False}
    messages = [USER, received, RESULT | {"content": cached}]
    with pending_completion(web, model=able, messages=messages, extra_body=extra) as (job_id, future):
        spec = web.ledger.get(job_id).spec
        answer(web, job_id)
        future.result(20)
    assert isinstance(spec, ChatJob)
    call, result = spec.messages[1:]
    assert (call.content, call.reasoning, call.tool_calls[0].function.name) == (None, "Hm", "f")
    assert (result.role, result.content, result.tool_call_id) == ("tool", "4", "c1")
    assert spec.reasoning_effort == "low"
