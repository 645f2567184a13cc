"""Tests of calls of tools and reasoning on the engines: also a small model's arguments are valid.

An answer that is cut at any token, and continued from its events, is the same as the undisturbed one.
"""

import json
from collections.abc import Sequence
from typing import Any

import jsonschema
import pytest

from tests.support.chat.engines import StartedEngine, skip_unsupported
from tests.support.chat.schemas import CITY, TOWN
from worker.chat.detokenizer import Detokenizer
from worker.chat.engine import ChatRequest, Delta
from worker.chat.parsing.model_parsers import ModelParsers
from worker.chat.parsing.template_parser import is_available
from worker.chat.transcript.answer import Answer
from worker.chat.transcript.choice import Choice
from worker.jobs.chat.tool_schema import forced_calls
from worker.jobs.events import LoggedEvent
from worker.jobs.specs import ChatJob, validate

TOOLS: list[Any] = [
    {"type": "function", "function": {"name": name, "parameters": schema}}
    for name, schema in (("town", TOWN), ("city", CITY))
]
#: An answer with reasoning and a call, as Qwen3 writes it.
WRITTEN = (
    r"<think>[a-z]{4,6}</think>\n[A-Z][a-z]{2,5}\.\n"
    r'<tool_call>\{"name": "town", "arguments": \{"old": (true|false)\}\}</tool_call>'
)


class Conversation:
    """A chat with tools on an engine, whose answer may come from several attempts."""

    def __init__(self, started: StartedEngine, vllm: bool = False, **options: Any) -> None:
        messages = [{"role": "user", "content": "Describe Paris."}]
        body = {"messages": messages, "tools": TOOLS, "max_tokens": 90, "temperature": 0}
        self.spec = validate(ChatJob, {**body, **options})
        self.engine = started
        self.prompt = started.engine.prompt_template.encode(messages)
        reasoning = "qwen3" if vllm else "think"
        self.parsers = ModelParsers(started.engine.prompt_template, "hermes", reasoning, vllm)

    def choice(self, logged: Sequence[LoggedEvent] = ()) -> Choice:
        choice = Choice(Answer("job"), None, logged, self.parsers.make(self.spec, self.prompt))
        markers = self.parsers.marker_tokens(self.spec)
        choice.replay(Detokenizer(self.parsers.tokenizer, self.spec, markers))
        return choice

    def request(self, name: str, choice: Choice) -> ChatRequest:
        forced = forced_calls(self.spec) or self.spec.structured_outputs
        return ChatRequest(
            name,
            self.prompt,
            self.spec.model_copy(update={"structured_outputs": forced}),
            choice.generated_ids,
            marker_tokens=self.parsers.marker_tokens(self.spec),
        )

    def interrupted(self, deltas: Sequence[Delta]) -> Choice:
        """Return the choice that another attempt makes of the events of these deltas."""
        choice, logged = self.choice(), list[LoggedEvent]()
        for delta in deltas:
            choice.add(delta)
            for event in choice.take_events():
                data = json.loads(event.fields()) | {"n": len(logged) + 1, "type": event.type}
                logged.append(LoggedEvent.from_json(json.dumps(data), event.resume))
        return self.choice(logged)

    def run(self) -> dict[str, Any]:
        """Return the result of the answer. Assert that it is the same if it is cut at any of its tokens."""
        first = self.request("whole", self.choice())
        whole = self.engine.run_requests(first)["whole"]
        # Where the parser holds text back, several cuts resume at the same token.
        cuts = {
            len(each.generated_ids): each for n in range(len(whole)) for each in [self.interrupted(whole[:n])]
        }
        choices = {f"from {size}": choice for size, choice in cuts.items()}
        requests = [self.request(name, choice) for name, choice in choices.items()]
        for name, deltas in self.engine.run_requests(*requests).items():
            for delta in deltas:
                choices[name].add(delta)
            choices[name].take_events()
        result = choices["from 0"].result()
        for name, choice in choices.items():
            assert choice.result() == result, name
            assert choice.tokens == len(whole)
        return result


@pytest.fixture(autouse=True)
def _skip(started: StartedEngine) -> None:
    skip_unsupported(started, "structured_outputs")


def named(function: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": function}}


@pytest.mark.parametrize(
    "options",
    [
        {"tool_choice": named("town")},
        pytest.param(
            {"tool_choice": "required", "parallel_tool_calls": False, "temperature": 1.0, "seed": 7},
            marks=pytest.mark.long,
        ),
        pytest.param({"tool_choice": named("city")}, marks=pytest.mark.long),
    ],
)
def test_calls_that_are_required_are_valid_and_resume_at_any_token(
    started: StartedEngine, options: dict[str, Any]
) -> None:
    if "seed" in options and not started.keeps_draws:
        pytest.skip("this model runner of vLLM starts the draws of a seed again")
    result = Conversation(started, **options).run()
    assert result["finish_reason"] == "tool_calls"
    assert result["text"] == ""
    schemas = {tool["function"]["name"]: tool["function"]["parameters"] for tool in TOOLS}
    for call in result["tool_calls"]:
        jsonschema.validate(json.loads(call["function"]["arguments"]), schemas[call["function"]["name"]])
    if isinstance(choice := options["tool_choice"], dict):
        assert [call["function"]["name"] for call in result["tool_calls"]] == [choice["function"]["name"]]


@pytest.mark.long
@pytest.mark.parametrize("vllm", [False, True])
def test_reasoning_and_calls_are_found_and_resume_at_any_token(
    started: StartedEngine, engine_name: str, vllm: bool
) -> None:
    """A grammar makes the small model write like a large one."""
    if vllm and engine_name != "vllm":
        pytest.skip("vLLM's parsers need vLLM")
    if not vllm and not is_available():
        pytest.skip("this version of transformers has no ResponseParser")
    result = Conversation(started, vllm, structured_outputs={"regex": WRITTEN}).run()
    assert result["finish_reason"] == "tool_calls"
    assert 4 <= len(result["reasoning"]) <= 6
    assert result["text"].strip().endswith(".")
    (call,) = result["tool_calls"]
    assert call["function"]["name"] == "town"
    assert set(json.loads(call["function"]["arguments"])) == {"old"}
