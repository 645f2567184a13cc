"""The hooks of runs: which calls they get, in which order, and what their errors do."""

from importlib.metadata import EntryPoint
from typing import Any

import pytest

from tests.support.chat.fake_engine import FakeEngine
from tests.support.ledger import lapse
from worker.chat.runner import ChatRunner
from worker.jobs.dispatch.dispatcher import Dispatcher
from worker.jobs.errors import ConfigurationError
from worker.jobs.events import Event, Reason
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.specs import ChatJob, validate
from worker.lane.lane import Lane
from worker.runs import hooks as module
from worker.runs.hooks import RunHook, RunHooks
from worker.runs.outbox import Outbox
from worker.runs.run import Run

WAIT_S = 20.0


class Recorder(RunHook):
    """A hook that notes its calls."""

    def __init__(self) -> None:
        self.calls = list[str]()

    def before_run(self, run: Run) -> None:
        self.calls.append(f"before {run.record.id}")

    def after_event(self, run: Run, event: Event) -> None:
        self.calls.append(event.type)

    def after_run(self, run: Run) -> None:
        self.calls.append(f"after {run.record.id}: {run.outcome}")

    def on_requeue(self, job_id: str, reason: Reason) -> None:
        self.calls.append(f"requeued {job_id}: {reason}")


class Broken:
    """A hook that raises whatever it is asked for."""

    def __getattr__(self, name: str) -> Any:
        raise LookupError(name)


def submit(ledger: Ledger, job_id: str) -> None:
    ledger.submit(job_id, "chat.fake", validate(ChatJob, {"messages": [{"role": "user", "content": "Hi"}]}))


def run_chat(ledger: Ledger, hooks: RunHooks) -> str:
    """Run a chat of one word on a lane with these hooks, and return its outcome."""
    dispatcher = Dispatcher(ledger.store, hooks.on_requeue)
    outbox = Outbox(dispatcher)
    runner = ChatRunner(FakeEngine(["Yes"], step_s=0.001), "fake", ledger, outbox)
    runner.start(lambda error: None)
    outbox.start()
    submit(ledger, "a")
    try:
        return Lane(dispatcher, outbox, runner, "w1", "cpu", hooks).run_job("a")
    finally:
        runner.stop()
        outbox.stop(WAIT_S)


def test_hooks_see_run_from_start_to_end(ledger: Ledger) -> None:
    recorder = Recorder()
    assert run_chat(ledger, RunHooks([recorder])) == "succeeded"
    assert recorder.calls == ["before a", "token", "succeeded", "after a: succeeded"]


def test_hooks_with_errors_harm_neither_run_nor_other_hooks(
    ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    recorder, broken = Recorder(), Broken()
    assert run_chat(ledger, RunHooks([broken, recorder])) == "succeeded"
    assert len(recorder.calls) == 4
    assert caplog.text.count("the run hook Broken failed in after_event") == 2


def test_hooks_see_requeues_of_other_workers_too(ledger: Ledger) -> None:
    recorder = Recorder()
    submit(ledger, "a")
    ledger.claim("a", "dead", "cpu")
    lapse(ledger, "dead")
    dispatcher = Dispatcher(ledger.store, RunHooks([recorder]).on_requeue)
    dispatcher.requeue("a", "dead", "worker_lost")
    dispatcher.requeue("a", "dead", "worker_lost")  # it waits already
    assert recorder.calls == ["requeued a: worker_lost"]


def test_run_without_hooks_calls_nothing_for_an_event(ledger: Ledger) -> None:
    submit(ledger, "a")
    record = ledger.claim("a", "w1", "cpu")
    assert record
    run = Run(record, Outbox(Dispatcher(ledger.store)))
    RunHooks().before_run(run)
    assert run.on_event is None


def test_installed_hook_that_cannot_be_loaded_is_a_configuration_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    point = EntryPoint("mine", "no_such_module:Hook", module.GROUP)
    monkeypatch.setattr(module, "entry_points", lambda group: [point] if group == module.GROUP else [])
    with pytest.raises(ConfigurationError, match="the run hook mine cannot be loaded: No module named"):
        RunHooks.installed()
