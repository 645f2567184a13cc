"""Tests that every chat engine must pass, whatever runs the model."""

from collections.abc import Callable

import pytest

from tests.support.chat.engine_contract import ChatEngineContract
from tests.support.chat.engines import SHORT_QUESTION, StartedEngine, chat
from worker.jobs.errors import EngineDied


class TestChatEngine(ChatEngineContract):
    """The requirements that also apply to vLLM on a GPU."""


def test_min_tokens_holds_against_model(started: StartedEngine) -> None:
    requests = [chat(started, str(n), SHORT_QUESTION, max_tokens=24, min_tokens=n) for n in (0, 3, 14, 99)]
    started.run_requests(*requests)
    wanted, same, longer, all_of_it = (started.recorder.ids(request.id) for request in requests)
    assert len(wanted) < 14
    assert same == wanted
    assert 14 <= len(longer) <= 24
    assert len(all_of_it) == 24
    assert longer[: len(wanted) - 1] == wanted[:-1]


def test_stop_string_is_ignored_before_min_tokens(started: StartedEngine) -> None:
    started.run_requests(chat(started, "a"))
    deltas = started.recorder.deltas("a")
    (early, at), late = next((d.text, n) for n, d in enumerate(deltas) if d.text.strip()), deltas[-2].text
    started.run_requests(chat(started, "b", stop=[early, late], min_tokens=at + 1))
    assert started.recorder.text("b").startswith(early)
    assert started.recorder.ends("b")[0].finish_reason == "stop"


def test_cancel_gives_slot_to_waiting_request(started: StartedEngine) -> None:
    names = [str(n) for n in range(started.engine.slots)]
    requests = [chat(started, name, max_tokens=300) for name in names]
    for request in [*requests, chat(started, "waiting", max_tokens=2)]:
        started.engine.submit(request)
    started.recorder.wait_for(lambda: all(started.recorder.deltas(name) for name in names))
    started.engine.cancel("0")
    started.recorder.wait_for(lambda: bool(started.recorder.ends("waiting")))
    for name in names:
        started.engine.cancel(name)
    started.recorder.wait_for(lambda: all(started.recorder.ends(name) for name in names))
    assert [end.finish_reason for name in names for end in started.recorder.ends(name)] == ["canceled"] * len(
        names
    )


def test_cancel_ignores_unknown_and_finished_requests(started: StartedEngine) -> None:
    started.engine.cancel("nobody")
    started.run_requests(chat(started, "a", max_tokens=2))
    started.engine.cancel("a")
    started.engine.submit(chat(started, "b", max_tokens=2))
    started.recorder.wait_for(lambda: bool(started.recorder.ends("b")))
    assert len(started.recorder.ends("a")) == 1


def test_stop_string_partial_match_is_emitted_at_end(started: StartedEngine) -> None:
    started.run_requests(chat(started, "a"))
    text = started.recorder.text("a")
    started.run_requests(chat(started, "a", stop=[text[-3:] + "\0"]))
    assert started.recorder.text("a") == text
    assert started.recorder.ends("a")[0].finish_reason == "length"


def test_greedy_repeats_its_answer(started: StartedEngine) -> None:
    started.run_requests(chat(started, "a"))
    first = started.recorder.text("a")
    started.run_requests(chat(started, "a"))
    assert started.recorder.text("a") == first != ""


def test_stop_ends_running_requests_and_refuses_new_ones(
    engine_name: str, serve: Callable[..., StartedEngine]
) -> None:
    started = serve(engine_name, slots=2, context_length=256)
    for name in "ab":
        started.engine.submit(chat(started, name, max_tokens=150))
    started.recorder.wait_for(lambda: all(started.recorder.deltas(name) for name in "ab"))
    late = chat(started, "late")
    started.engine.stop()
    assert [end.finish_reason for name in "ab" for end in started.recorder.ends(name)] == ["error", "error"]
    assert started.recorder.broken == []
    with pytest.raises(EngineDied):
        started.engine.submit(late)
    started.engine.stop()


def test_dead_engine_ends_every_request_and_reports_once(
    engine_name: str, serve: Callable[..., StartedEngine]
) -> None:
    started = serve(engine_name, slots=2, context_length=256)
    for name in "abc":
        started.engine.submit(chat(started, name, max_tokens=150))
    started.recorder.wait_for(lambda: all(started.recorder.deltas(name) for name in "ab"))
    words = started.break_down()
    started.recorder.wait_for(lambda: bool(started.recorder.broken))
    ends = [end for name in "abc" for end in started.recorder.ends(name)]
    assert [end.finish_reason for end in ends] == ["error"] * 3
    assert all(isinstance(end.error, EngineDied) and words in str(end.error) for end in ends)
    assert len(started.recorder.broken) == 1
    with pytest.raises(EngineDied):
        started.engine.submit(chat(started, "late"))
