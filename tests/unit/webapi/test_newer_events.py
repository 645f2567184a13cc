"""Events of a newer version reach clients as they are, and stop no reader of the API."""

import json
from collections.abc import Sequence

import pytest

from tests.support.ledger import append_of
from tests.support.newer_events import NewerBatch, NewerFailed, NewerSucceeded, NewerToken, Remark
from webapi.documents.memory import MemoryDocument
from webapi.http.sse import frames
from webapi.openai.completion import CompletionBuilder
from webapi.openai.translate import failure, parse_request
from webapi.services.backend import Backend
from webapi.services.follow import follow
from worker.jobs.events import Event, LoggedEvent
from worker.jobs.settings import Settings
from worker.jobs.specs import ChatJob, validate

CHAT = validate(ChatJob, {"messages": [{"role": "user", "content": "Hi"}]})
USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
SAMPLE = {"allocated": 1, "reserved": 1}
MEMORY = {"source": "rss", "before": SAMPLE, "after": SAMPLE, "peak_allocated": 1, "peak_reserved": 1}
DONE = NewerSucceeded({"text": "Hello", "finish_reason": "stop"}, USAGE)


def logged(*events: Event) -> list[LoggedEvent]:
    """Return the events as a job's log has them."""
    found = []
    for n, event in enumerate(events, 1):
        envelope = {"n": n, "type": event.type, "job": "a", "attempt": 1, "time": "2026-01-01T00:00:00.000Z"}
        found.append(LoggedEvent.from_json(json.dumps(envelope | json.loads(event.fields()))))
    return found


@pytest.fixture
def backend(settings: Settings) -> Backend:
    backend = Backend.from_settings(settings)
    backend.ledger.submit("a", "chat.test", CHAT)
    backend.ledger.claim("a", "w1", "cpu")
    return backend


def append(backend: Backend, first: int, *events: Event) -> None:
    backend.ledger.append([append_of(backend.ledger, "a", first, events, {})])


def check(events: Sequence[LoggedEvent | None]) -> None:
    """Check that these are the newer events `Remark`, `NewerToken` and `NewerSucceeded`, with all fields."""
    remark, token, succeeded = (event for event in events if event)
    assert (remark.type, remark.data["text"]) == ("remark", "Hm.")
    assert (token.type, token.data["weight"]) == ("token", 7)
    assert (succeeded.terminal, succeeded.data["cost"]) == (True, 0.5)


def test_log_keeps_newer_events(backend: Backend) -> None:
    append(backend, 3, Remark(), NewerToken("Hi", 0, 1), DONE)
    check(backend.ledger.events("a", 2))


def test_feed_delivers_newer_events(backend: Backend) -> None:
    with backend.feed.join(backend.store.channel("a")) as inbox:
        assert inbox.get(20) is None
        append(backend, 3, Remark(), NewerToken("Hi", 0, 1), DONE)
        check([inbox.get(20) for _ in range(3)])


def test_follow_goes_on_after_newer_events(backend: Backend) -> None:
    following = follow(backend, "a", 0)
    assert [event.n for event in (next(following), next(following)) if event] == [1, 2]
    append(backend, 3, Remark(), NewerToken("Hi", 0, 1), DONE)
    check(list(following))


def test_sse_frames_pass_newer_events_on() -> None:
    events = logged(Remark(), NewerToken("Hi", 0, 1))
    assert list(frames(events)) == [
        f"id: 1\nevent: remark\ndata: {events[0].text}\n\n",
        f"id: 2\nevent: token\ndata: {events[1].text}\n\n",
    ]


def test_memory_report_skips_newer_events() -> None:
    events = logged(Remark(), NewerBatch(0, 3, 1, 0.1, MEMORY | {"unknown": 1}), DONE)
    [batch] = MemoryDocument.from_events("a", events).batches
    assert (batch.frames, batch.size) == (3, 4)


def test_openai_view_skips_newer_events() -> None:
    events = logged(Remark(), NewerToken("Hel", 0, 1), Remark(), NewerToken("lo", 1, 1), DONE)
    body = {"messages": [{"role": "user", "content": "Hi"}], "stream_options": {"include_usage": True}}
    builder = CompletionBuilder("a", "tiny", 1.0, parse_request(body))
    *chunks, done = (
        line.removeprefix("data: ") for line in "".join(builder.stream(events)).split("\n\n") if line
    )
    choices = [choice for chunk in chunks for choice in json.loads(chunk)["choices"]]
    assert (done, "".join(choice["delta"].get("content") or "" for choice in choices)) == ("[DONE]", "Hello")
    assert builder.completion(events[-1]).choices[0].message.content == "Hello"
    [failed] = logged(NewerFailed("out_of_memory", "The GPU is full."))
    assert failure(failed).code == "out_of_memory"
