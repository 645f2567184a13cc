"""Tests of chats whose answers have reasoning and calls of tools, also when a worker is lost at any token."""

import json
import threading
from collections.abc import Iterable
from typing import Any

import pytest

from tests.support.chat.token_engine import TokenEngine
from worker.chat.parsing.template_parser import is_available
from worker.chat.runner import ChatRunner
from worker.jobs.dispatch.dispatcher import Dispatcher
from worker.jobs.events import ANSWER
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.records import Record
from worker.jobs.specs import ChatJob, validate
from worker.runs.outbox import Outbox
from worker.runs.run import Run

needs_templates = pytest.mark.skipif(
    not is_available(), reason="this version of transformers has no ResponseParser"
)
WAIT_S = 20.0
TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}} for name in ("f", "g")
]
ANSWER_TEXT = (
    "<think>é <b></think>\n\nOn it.\n"
    '<tool_call>\n{"name": "f", "arguments": {"a": "ü\\n"}}</tool_call>'
    '<tool_call>{"name": "g"}</tool_call>'
)
FORCED_TEXT = '[{"name": "f", "arguments": {"a": ["é"]}}, {"name": "g", "arguments": {}}]'


def submit(ledger: Ledger, job_id: str, **options: Any) -> None:
    body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1000, **options}
    ledger.submit(job_id, "chat.fake", validate(ChatJob, body))


def attempt(ledger: Ledger, job_id: str, text: str, steps: int = 10**6) -> Record:
    """Run a job for some steps, and log all that they make final. Requeue the job if it has not ended."""
    engine, outbox = TokenEngine(text), Outbox(Dispatcher(ledger.store), coalesce_max_s=0)
    runner = ChatRunner(engine, "fake", ledger, outbox)
    runner.start(lambda error: None)
    outbox.start()
    record = ledger.claim(job_id, "w", "cpu")
    assert record is not None
    run = Run(record, outbox)
    thread = threading.Thread(target=runner.run_job, args=(run,))
    thread.start()
    assert engine.busy.wait(WAIT_S)
    if all(engine.step() for _ in range(steps)):
        run.emit().result(WAIT_S)
        run.abandon()
    thread.join(WAIT_S)
    assert not thread.is_alive()
    runner.stop()
    outbox.stop(WAIT_S)
    if ledger.get(job_id).state == "running":
        ledger.requeue(job_id, "w", "drain")
    return ledger.get(job_id)


def told(ledger: Ledger, job_id: str) -> dict[str, Any]:
    """Return what the events of a job say, as a client puts them together; and the token ids in the log."""
    said: dict[str, Any] = {"text": "", "reasoning": "", "calls": {}, "ids": [], "count": 0}
    for event in ledger.events(job_id):
        if event.type in ANSWER:
            said["ids"] += event.resume.split()
            if event.type != "tool_call":
                assert event.data["index"] == len(said["ids"]) - event.data["count"]
                said["text" if event.type == "token" else "reasoning"] += event.data["text"]
            else:
                call = said["calls"].setdefault(event.data["index"], {"arguments": ""})
                assert ("id" in event.data) == ("name" in event.data) == ("id" not in call)
                call |= {name: event.data[name] for name in ("id", "name") if name in event.data}
                call["arguments"] += event.data["arguments"]
    return said


@needs_templates
def test_answer_is_separated_into_text_reasoning_and_calls(ledger: Ledger) -> None:
    submit(ledger, "a", tools=TOOLS)
    job = attempt(ledger, "a", ANSWER_TEXT)
    assert job.result is not None
    assert job.usage is not None
    calls = [(call["function"]["name"], call["function"]["arguments"]) for call in job.result["tool_calls"]]
    assert calls == [("f", '{"a": "ü\\n"}'), ("g", "{}")]
    assert {call["type"] for call in job.result["tool_calls"]} == {"function"}
    assert (job.result["text"], job.result["reasoning"]) == ("On it.", "é <b>")
    assert job.result["finish_reason"] == "tool_calls"
    assert 0 < job.usage["completion_tokens_details"]["reasoning_tokens"] < job.usage["completion_tokens"]
    said = told(ledger, "a")
    assert (said["text"], said["reasoning"]) == ("On it.", "é <b>")
    assert ids(said["calls"].values()) == ids(job.result["tool_calls"])


@needs_templates
@pytest.mark.parametrize(
    ("text", "options"),
    [
        (ANSWER_TEXT, {"tools": TOOLS}),
        (FORCED_TEXT, {"tools": TOOLS, "tool_choice": "required"}),
    ],
    ids=["auto", "required"],
)
def test_answer_is_the_same_whatever_token_the_worker_is_lost_at(
    ledger: Ledger, text: str, options: dict[str, Any]
) -> None:
    submit(ledger, "whole", **options)
    whole, wanted = attempt(ledger, "whole", text), told(ledger, "whole")
    assert whole.result is not None
    assert whole.done > 60
    for cut in range(1, whole.done):
        job_id = f"cut {cut}"
        submit(ledger, job_id, **options)
        assert attempt(ledger, job_id, text, cut).state == "queued"
        job, said = attempt(ledger, job_id, text), told(ledger, job_id)
        assert without_ids(job.result) == without_ids(whole.result), cut
        assert job.usage == whole.usage
        assert said["ids"] == wanted["ids"][: len(said["ids"])]
        assert (said["text"], said["reasoning"]) == (wanted["text"], wanted["reasoning"])
        assert ids((job.result or {})["tool_calls"]) == ids(said["calls"].values())


def ids(calls: Iterable[dict[str, Any]]) -> list[str]:
    return [call["id"] for call in calls]


def without_ids(result: dict[str, Any] | None) -> dict[str, Any]:
    """Return a result without the ids of its calls, which are other ones in another job."""
    assert result is not None
    calls = [{**call, "id": ""} for call in result["tool_calls"]]
    return {**result, "tool_calls": calls}


@needs_templates
def test_reasoning_is_hidden_if_the_chat_asks_for_that(ledger: Ledger) -> None:
    submit(ledger, "a", include_reasoning=False)
    job = attempt(ledger, "a", "<think>secret</think>Hi")
    assert job.result == {"text": "Hi", "finish_reason": "stop"}
    assert (job.usage or {})["completion_tokens_details"]["reasoning_tokens"] >= 5
    assert "secret" not in json.dumps([event.data for event in ledger.events("a")])
    assert "reasoning" in {event.type for event in ledger.events("a")}


@needs_templates
def test_parallel_tool_calls_false_keeps_the_first_call(ledger: Ledger) -> None:
    submit(ledger, "a", tools=TOOLS, parallel_tool_calls=False)
    job = attempt(ledger, "a", ANSWER_TEXT)
    assert [call["function"]["name"] for call in (job.result or {})["tool_calls"]] == ["f"]


@needs_templates
@pytest.mark.parametrize("options", [{}, {"tools": TOOLS, "tool_choice": "none"}])
def test_calls_are_text_in_a_chat_without_tools(ledger: Ledger, options: dict[str, Any]) -> None:
    text = '<tool_call>{"name": "g", "arguments": {}}</tool_call>'
    submit(ledger, "a", **options)
    assert attempt(ledger, "a", text).result == {"text": text, "finish_reason": "stop"}


@needs_templates
def test_answer_to_raw_prompt_is_only_text_whatever_token_the_worker_is_lost_at(ledger: Ledger) -> None:
    submit(ledger, "whole", messages=None, prompt="Hi")
    whole = attempt(ledger, "whole", ANSWER_TEXT)
    assert whole.result is not None
    assert "On it." in whole.result["text"]
    assert "</think>" not in whole.result.get("reasoning", "")
    for cut in range(1, whole.done, 7):
        job_id = f"cut {cut}"
        submit(ledger, job_id, messages=None, prompt="Hi")
        assert attempt(ledger, job_id, ANSWER_TEXT, cut).state == "queued"
        job = attempt(ledger, job_id, ANSWER_TEXT)
        assert (job.result, job.usage) == (whole.result, whole.usage), cut


def test_call_that_max_tokens_ends_keeps_its_arguments(ledger: Ledger) -> None:
    submit(ledger, "a", tools=TOOLS, tool_choice="required", max_tokens=35)
    result = attempt(ledger, "a", FORCED_TEXT).result or {}
    [call] = result["tool_calls"]
    assert '{"a": ["é"]}'.startswith(call["function"]["arguments"])
    assert result["finish_reason"] == "length"


@pytest.mark.parametrize(
    ("stop", "reason"),
    [("é", "stop"), ("}}", "stop"), ('"g"', "tool_calls"), ("]", "stop"), ("}]", "tool_calls")],
)
@pytest.mark.parametrize("cut", [10**6, 22])
def test_call_that_a_stop_string_ends_is_no_reason_to_call(
    ledger: Ledger, stop: str, reason: str, cut: int
) -> None:
    submit(ledger, "a", tools=TOOLS, tool_choice="required", stop=[stop])
    if cut < len(FORCED_TEXT):
        attempt(ledger, "a", FORCED_TEXT, cut)
    result = attempt(ledger, "a", FORCED_TEXT).result or {}
    assert result["tool_calls"][0]["function"]["name"] == "f"
    assert result["finish_reason"] == reason


@needs_templates
def test_choices_have_their_own_calls(ledger: Ledger) -> None:
    submit(ledger, "a", tools=TOOLS, n=2)
    attempt(ledger, "a", ANSWER_TEXT, 30)
    choices = (attempt(ledger, "a", ANSWER_TEXT).result or {})["choices"]
    assert [choice["finish_reason"] for choice in choices] == ["tool_calls"] * 2
    ids = [call["id"] for choice in choices for call in choice["tool_calls"]]
    assert len({*ids}) == 4
