import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from tests.support.fake_engine import FakeEngine
from tests.support.stack import eventually
from worker.chat import runner as chat_runner
from worker.chat.engine import ChatRequest, Delta
from worker.chat.runner import ChatRunner
from worker.jobs.errors import EngineDied, OutOfMemory
from worker.jobs.events import Token
from worker.jobs.ledger.appends import Append
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.specs import validate
from worker.runs.outbox import Outbox
from worker.runs.run import Run

WAIT_S = 20.0
WORDS = ("one", " two", " three", " four")


@contextmanager
def running(ledger: Ledger, engine: FakeEngine) -> Iterator[tuple[ChatRunner, Outbox]]:
    outbox = Outbox(ledger)
    runner = ChatRunner(engine, "fake", ledger, outbox)
    runner.start(lambda error: None)
    outbox.start()
    try:
        yield runner, outbox
    finally:
        runner.stop()
        outbox.stop(WAIT_S)


def submit(ledger: Ledger, job_id: str, **options: object) -> None:
    body = {"messages": [{"role": "user", "content": "count"}], **options}
    ledger.submit(job_id, "chat.fake", validate("chat", body))


def claim(ledger: Ledger, outbox: Outbox, job_id: str) -> Run:
    record = ledger.claim(job_id, "w", "cpu")
    assert record is not None
    return Run(record, outbox)


def said(ledger: Ledger, job_id: str) -> list[tuple[int, int, str]]:
    tokens = [event.data for event in ledger.events(job_id) if event.type == "token"]
    return [(token["index"], token["count"], token["text"]) for token in tokens]


def test_an_answer_is_told_by_tokens_and_ends_with_its_text_and_usage(ledger: Ledger) -> None:
    submit(ledger, "a")
    with running(ledger, FakeEngine(WORDS, step_s=0.001)) as (runner, outbox):
        runner.run_job(claim(ledger, outbox, "a"))
    job = ledger.get("a")
    assert (job.state, job.done) == ("succeeded", 5)  # the words and the end-of-sequence token
    assert job.result == {"text": "one two three four", "finish_reason": "stop"}
    assert job.usage == {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
    assert "".join(text for _, _, text in said(ledger, "a")) == "one two three four"
    assert sum(count for _, count, _ in said(ledger, "a")) == 4


@contextmanager
def stepping(ledger: Ledger, *names: str) -> Iterator[tuple[FakeEngine, Outbox]]:
    """An engine that steps when told to, and runs of these jobs; the outbox has not started."""
    engine, outbox = FakeEngine(WORDS), Outbox(ledger)
    runner = ChatRunner(engine, "fake", ledger, outbox)
    runner.start(lambda error: None)
    threads = []
    for name in names:
        submit(ledger, name)
        threads.append(threading.Thread(target=runner.run_job, args=(claim(ledger, outbox, name),)))
        threads[-1].start()
    eventually(lambda: len(engine.submitted) == len(names), "the requests")
    yield engine, outbox
    for thread in threads:
        thread.join(WAIT_S)
    runner.stop()
    outbox.stop(WAIT_S)


def test_tokens_that_pile_up_are_one_event(ledger: Ledger) -> None:
    with stepping(ledger, "a", "b") as (engine, outbox):
        for _ in WORDS:
            engine.step()
        outbox.start()
        engine.step()
    assert said(ledger, "a") == said(ledger, "b") == [(0, 4, "one two three four")]
    assert [event.type for event in ledger.events("a")] == ["queued", "started", "token", "succeeded"]


def test_a_token_more_waits_for_company_and_the_first_and_the_end_do_not(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.runs.outbox.REST", 1e9)
    monkeypatch.setattr("worker.runs.outbox.REST_MAX_S", 10 * WAIT_S)
    with stepping(ledger, "a") as (engine, outbox):
        outbox.start()
        engine.step()
        eventually(lambda: said(ledger, "a"), "the first token")
        for _ in WORDS:
            engine.step()
    assert said(ledger, "a") == [(0, 1, "one"), (1, 3, " two three four")]
    assert ledger.get("a").state == "succeeded"


def test_a_next_attempt_goes_on_after_what_was_said(ledger: Ledger) -> None:
    submit(ledger, "a", max_tokens=5)
    ledger.claim("a", "dead", "cpu")
    ledger.append([Append("a", 1, 3, [Token("one two", 0, (0, 1))], {"done": 3})])  # one more was held back
    ledger.requeue("a", "dead", "drain")
    engine = FakeEngine(WORDS, step_s=0.001)
    with running(ledger, engine) as (runner, outbox):
        runner.run_job(claim(ledger, outbox, "a"))
    [request] = engine.submitted
    assert (len(request.prompt), request.generated_ids, request.max_tokens) == (3, (0, 1), 5)
    job = ledger.get("a")
    assert job.done == 5
    assert job.result == {"text": "one two three four", "finish_reason": "stop"}
    assert job.usage == {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
    first, *rest = said(ledger, "a")
    assert first == (0, 2, "one two")
    assert rest[0][0] == 2
    assert "".join(text for _, _, text in rest) == " three four"


@pytest.mark.parametrize("steps", range(1, 10))
def test_an_answer_is_the_same_wherever_its_worker_died(ledger: Ledger, steps: int) -> None:
    words = ("one", " two", " <", "/", "st", " three", " four", " </", "stop", ">", " five")
    submit(ledger, "a", stop=["</stop>"])
    submitted = threading.Event()

    def script(request: ChatRequest) -> Sequence[str]:
        submitted.set()
        return words

    engine = FakeEngine(script=script)
    with running(ledger, engine) as (runner, outbox):
        run = claim(ledger, outbox, "a")
        thread = threading.Thread(target=runner.run_job, args=(run,))
        thread.start()
        assert submitted.wait(WAIT_S)
        for _ in range(steps):
            engine.step()
            run.wait_logged(WAIT_S)
        run.abandon()
        thread.join(WAIT_S)
    ledger.requeue("a", "w", "drain")
    with running(ledger, FakeEngine(words, step_s=0.001)) as (runner, outbox):
        runner.run_job(claim(ledger, outbox, "a"))

    job = ledger.get("a")
    text = "one two </st three four "
    assert job.result == {"text": text, "finish_reason": "stop"}
    assert job.usage == {"prompt_tokens": 3, "completion_tokens": 10, "total_tokens": 13}
    tokens = said(ledger, "a")
    assert "".join(text for _, _, text in tokens) == text
    assert [index for index, _, _ in tokens] == [
        sum(n for _, n, _ in tokens[:at]) for at in range(len(tokens))
    ]


def test_an_answer_that_met_a_lack_of_memory_says_so(ledger: Ledger) -> None:
    submit(ledger, "a")
    engine = FakeEngine()
    with running(ledger, engine) as (runner, outbox):
        run = claim(ledger, outbox, "a")
        thread = threading.Thread(target=runner.run_job, args=(run,), daemon=True)
        thread.start()
        eventually(lambda: engine.submitted, "the request")
        full = OutOfMemory("the device is full")
        runner._on_step([Delta(run.id, "", (), "error", full)])
        thread.join(WAIT_S)
    assert ledger.get("a").error == {"code": "out_of_memory", "message": "the device is full"}


def test_a_cancel_is_heard_while_all_text_is_held_back(ledger: Ledger) -> None:
    submit(ledger, "a", stop=["x" * 200], max_tokens=100_000)
    engine = FakeEngine(["x"] * 199 + ["y"] + ["x"] * 100_000, step_s=0.001)
    with running(ledger, engine) as (runner, outbox):
        run = claim(ledger, outbox, "a")
        ledger.cancel("a")
        runner.run_job(run)
    job = ledger.get("a")
    assert job.state == "canceled"
    assert job.done < 150


def test_a_cancel_stops_the_engine_and_frees_its_slot(ledger: Ledger) -> None:
    submit(ledger, "long")
    submit(ledger, "next", max_tokens=2)
    engine = FakeEngine(WORDS * 10_000, slots=1, step_s=0.001)
    with running(ledger, engine) as (runner, outbox):
        run = claim(ledger, outbox, "long")
        thread = threading.Thread(target=runner.run_job, args=(run,))
        thread.start()
        ledger.cancel("long")  # the next append is told
        thread.join(WAIT_S)
        assert not thread.is_alive()
        runner.run_job(claim(ledger, outbox, "next"))
    assert ledger.get("long").state == "canceled"
    assert ledger.get("long").usage is not None
    assert ledger.get("next").state == "succeeded"


def test_an_engine_that_takes_no_step_is_reported_as_broken(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat_runner, "HANG_S", 0.05)
    submit(ledger, "a")
    outbox, errors = Outbox(ledger), list[BaseException]()
    runner, run = ChatRunner(FakeEngine(), "fake", ledger, outbox), claim(ledger, outbox, "a")

    def on_broken(error: BaseException) -> None:
        errors.append(error)
        run.abandon()  # as a worker does that hands it back

    runner.start(on_broken)
    runner.run_job(run)
    assert [str(error) for error in errors] == ["the chat engine has brought nothing for 0 s"]
    assert isinstance(errors[0], EngineDied)


class Hanging(FakeEngine):
    """It takes no step, but who cancels hears from it at once: vLLM's is another process than its engine."""

    def cancel(self, request_id: str) -> None:
        super().cancel(request_id)
        deltas, self._decided = self._decided, []
        self._on_step(deltas)


def test_chats_that_are_canceled_meanwhile_do_not_hide_an_engine_that_hangs(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One after the other, each for less long than an engine that hangs is waited for."""
    monkeypatch.setattr(chat_runner, "HANG_S", 1.0)
    outbox, broken = Outbox(ledger), threading.Event()
    runner = ChatRunner(Hanging(), "fake", ledger, outbox)
    runner.start(lambda error: broken.set())
    for n in range(20):
        submit(ledger, str(n))
        run = claim(ledger, outbox, str(n))
        thread = threading.Thread(target=runner.run_job, args=(run,))
        thread.start()
        broken.wait(0.3)
        run.abandon()
        thread.join(WAIT_S)
        if broken.is_set():
            break
    assert broken.is_set()


def test_an_engine_that_takes_steps_may_take_long(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_runner, "HANG_S", 2.0)
    submit(ledger, "a", max_tokens=50)
    with running(ledger, FakeEngine((" word",) * 100, step_s=0.05)) as (runner, outbox):
        monkeypatch.setattr(runner, "_on_broken", pytest.fail)
        runner.run_job(claim(ledger, outbox, "a"))
    assert ledger.get("a").state == "succeeded"
