"""Tests of the events of a response, which are a function of the log of its job."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.newer_events import NewerSucceeded, NewerToken, Remark
from tests.support.responses import check_events, check_response
from tests.unit.webapi.test_newer_events import USAGE, logged
from webapi.responses.fold import ResponseFold
from webapi.responses.job import ResponseJob, make_job
from webapi.responses.request import read_request
from worker.jobs.events import (
    Canceled,
    Event,
    Failed,
    Queued,
    Reasoning,
    Requeued,
    Started,
    Succeeded,
    Token,
    ToolCall,
)
from worker.jobs.records import Record

JOB_ID = "0123456789abcdef0123456789abcdef"
START = Queued(2), Queued(1), Started("w1", "cpu")
TOKYO = Token("Tok", 0, 1), Token("yo.", 1, 1)


def job_of(**body: Any) -> ResponseJob:
    return make_job(*read_request({"input": "Hi", "model": "tiny"} | body))


def fold_of(job: ResponseJob) -> ResponseFold:
    fields = {
        "kind": "chat",
        "queue": "chat.tiny",
        "spec": job.model_dump_json(exclude_defaults=True),
        "state": "succeeded",
        "created_at": "1767225600.5",
        "attempt": "1",
        "events": "9",
    }
    return ResponseFold(Record.from_hash(JOB_ID, fields), job)


def events_of(*log: Event, **body: Any) -> list[dict[str, Any]]:
    """Return the events of a response with this log, after a trip through JSON."""
    fold = fold_of(job_of(**body))
    return [json.loads(json.dumps(event)) for each in logged(*log) for event in fold.feed(each)]


def end(text: str = "Tokyo.", reason: str = "stop") -> Succeeded:
    return Succeeded({"text": text, "finish_reason": reason}, USAGE)


def names(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in events]


def test_fold_of_text_has_events_of_one_message() -> None:
    events = events_of(*START, *TOKYO, end())
    assert names(events) == [
        "created",
        "queued",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    response = check_events(events)
    assert [event["response"]["status"] for event in events[:3]] == ["queued", "queued", "in_progress"]
    assert (response["id"], response["status"]) == (f"resp_{JOB_ID}", "completed")
    assert (response["created_at"], response["completed_at"]) == (1767225600, 1767225600)
    assert response["output"][0]["content"][0]["text"] == "Tokyo."
    assert response["usage"]["total_tokens"] == 3


def test_fold_separates_reasoning_text_and_calls() -> None:
    log = (
        Reasoning("Hm", 0, 1),
        Reasoning("m.", 1, 1),
        Token("Let me see.", 2, 1),
        ToolCall(0, "", 1, "call_a", "weather"),
        ToolCall(0, '{"city":', 1),
        ToolCall(0, '"Oslo"}', 1),
        ToolCall(1, "{}", 1, "call_b", "clock"),
    )
    response = check_events(events_of(*START, *log, end("Let me see.", "tool_calls")))
    reasoning, message, weather, clock = response["output"]
    assert (reasoning["type"], reasoning["content"][0]["text"]) == ("reasoning", "Hmm.")
    assert message["content"][0]["text"] == "Let me see."
    assert (weather["call_id"], weather["name"], weather["arguments"]) == (
        "call_a",
        "weather",
        '{"city":"Oslo"}',
    )
    assert (clock["call_id"], clock["status"]) == ("call_b", "completed")
    assert len({item["id"] for item in response["output"]}) == 4


def test_fold_hides_that_a_worker_was_lost() -> None:
    undisturbed = events_of(*START, *TOKYO, end())
    lost = events_of(*START, TOKYO[0], Requeued("worker_lost"), Queued(1), START[2], TOKYO[1], end())
    assert lost == undisturbed


def test_fold_does_not_know_hidden_reasoning() -> None:
    response = check_events(events_of(*START, Reasoning("", 0, 1), *TOKYO, Token("", 2, 1), end()))
    assert [item["type"] for item in response["output"]] == ["message"]


def test_fold_carries_logprobs() -> None:
    found: Any = {"token": "Tok", "logprob": -0.5, "bytes": [84], "top_logprobs": []}
    log = Token("Tok", 0, 1, logprobs=[found]), Token("yo.", 1, 1, logprobs=[found])
    events = events_of(*START, *log, end(), top_logprobs=1)
    response = check_events(events)
    assert [event["logprobs"] for event in events if event["type"].endswith("delta")] == [[found], [found]]
    assert response["output"][0]["content"][0]["logprobs"] == [found, found]


def test_fold_of_long_answer_is_incomplete() -> None:
    events = events_of(*START, *TOKYO, end(reason="length"))
    response = check_events(events)
    assert (names(events)[-1], response["status"]) == ("incomplete", "incomplete")
    assert response["incomplete_details"] == {"reason": "max_output_tokens"}
    assert response["output"][0]["status"] == "incomplete"


@pytest.mark.parametrize(
    ("last", "name", "status", "error"),
    [
        (Canceled(), "incomplete", "cancelled", None),
        (Failed("worker_lost", "Lost."), "failed", "failed", ("server_error", "worker_lost: Lost.")),
        (
            Failed("invalid_structured_outputs", "Bad."),
            "failed",
            "failed",
            ("invalid_prompt", "invalid_structured_outputs: Bad."),
        ),
    ],
)
def test_fold_keeps_text_of_unfinished_response(
    last: Event, name: str, status: str, error: tuple[str, str] | None
) -> None:
    events = events_of(*START, *TOKYO, last)
    response = check_events(events)
    assert (names(events)[-1], response["status"]) == (name, status)
    assert (response["output"][0]["status"], response["usage"]) == ("incomplete", None)
    assert response["error"] == (error and {"code": error[0], "message": error[1]})


def test_fold_of_job_canceled_in_queue_has_no_items() -> None:
    events = events_of(*START[:2], Canceled())
    assert names(events) == ["created", "queued", "incomplete"]
    assert check_events(events)["output"] == []


def test_fold_of_empty_answer_has_empty_message() -> None:
    response = check_events(events_of(*START, end("")))
    assert response["output"][0]["content"][0]["text"] == ""


TEXTS = st.text(max_size=3)
PARTS = st.one_of(
    TEXTS.map(lambda text: Token(text, 0, 1)),
    TEXTS.map(lambda text: Reasoning(text, 0, 1)),
    st.builds(lambda index, text: ToolCall(index, text, 1, "c", "f"), st.integers(0, 2), TEXTS),
)


@settings(max_examples=20)
@given(st.lists(PARTS, max_size=12), st.integers(0, 12))
def test_fold_of_any_answer_adds_up(answer: list[Event], lost_after: int) -> None:
    undisturbed = events_of(*START, *answer, end())
    check_events(undisturbed)
    again = Requeued("worker_lost"), Queued(1), START[2]
    assert events_of(*START, *answer[:lost_after], *again, *answer[lost_after:], end()) == undisturbed


def test_fold_skips_what_a_newer_version_logs() -> None:
    done = NewerSucceeded({"text": "Hello", "finish_reason": "stop"}, USAGE)
    log = Remark(), NewerToken("Hel", 0, 1), Remark(), NewerToken("lo", 1, 1), done
    assert check_events(events_of(*START, *log))["output"][0]["content"][0]["text"] == "Hello"


def test_response_returns_the_options_of_its_request() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    form = {"type": "json_schema", "name": "thing", "schema": schema, "strict": True}
    tool = {"type": "function", "name": "f", "parameters": schema, "strict": False, "description": None}
    choice = {"type": "function", "name": "f"}
    given: dict[str, Any] = {
        "instructions": "Be brief.",
        "metadata": {"a": "b"},
        "max_output_tokens": 7,
        "temperature": 0.5,
        "top_p": 0.5,
        "user": "me",
        "tools": [tool],
        "tool_choice": choice,
        "parallel_tool_calls": False,
        "background": True,
        "reasoning": {"effort": "low", "summary": "auto"},
        "top_logprobs": 2,
    }
    job = job_of(**given, text={"format": form})
    stored = ResponseJob.model_validate_json(job.model_dump_json(exclude_defaults=True))
    response = fold_of(stored).response
    check_response(response)
    assert {name: response[name] for name in given} == given
    assert response["text"] == {"format": form, "verbosity": "medium"}
