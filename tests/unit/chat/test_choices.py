"""Chats with several choices, with a fake engine."""

from collections import defaultdict
from collections.abc import Sequence

import pytest

from tests.support.chat.fake_engine import FakeEngine
from tests.support.stack import eventually
from tests.unit.chat.test_runner import claim, run_with_loss, running, submit, usage
from worker.chat.engine import ChatRequest, Delta
from worker.jobs.errors import OutOfMemory
from worker.jobs.events import LoggedEvent
from worker.jobs.ledger.ledger import Ledger

#: The words of each choice, of different lengths.
WORDS = (("one", " two", " three"), ("un", " deux"), ("eins", " zwei", " drei", " vier"))
TEXTS = ["".join(words) for words in WORDS]


def script(request: ChatRequest) -> Sequence[str]:
    index = request.id.rpartition(".")[2]  # the name of the claim, if there is only one choice
    return WORDS[int(index) if index in ("0", "1", "2") else 0]


def tokens_by_choice(ledger: Ledger, job_id: str) -> dict[int, list[LoggedEvent]]:
    found = defaultdict[int, list[LoggedEvent]](list)
    for event in ledger.events(job_id):
        if event.type == "token":
            found[event.data["choice"]].append(event)
    return found


def test_chat_runner_logs_each_choice_and_all_texts(ledger: Ledger) -> None:
    submit(ledger, "a", n=3)
    with running(ledger, FakeEngine(script=script, step_s=0.001)) as (runner, outbox):
        runner.run_job(claim(ledger, outbox, "a"))
    job = ledger.get("a")
    choices = [{"index": i, "text": text, "finish_reason": "stop"} for i, text in enumerate(TEXTS)]
    assert job.result == {"text": TEXTS[0], "finish_reason": "stop", "choices": choices}
    completion = sum(len(words) + 1 for words in WORDS)  # with the end-of-sequence tokens
    assert job.usage == usage(completion)
    assert job.done == completion
    for index, events in tokens_by_choice(ledger, "a").items():
        assert "".join(event.data["text"] for event in events) == TEXTS[index]
        assert sum(event.data["count"] for event in events) == len(WORDS[index]) + 1
        assert [event.data.get("finish_reason") for event in events] == [None] * (len(events) - 1) + ["stop"]


def test_chat_runner_adds_index_of_choice_to_seed(ledger: Ledger) -> None:
    submit(ledger, "a", n=3, seed=2**63 - 2)
    submit(ledger, "b", n=2)
    with running(ledger, FakeEngine(script=script, step_s=0.001)) as (runner, outbox):
        engine: FakeEngine = runner._engine  # type: ignore[assignment]
        for name in "ab":
            runner.run_job(claim(ledger, outbox, name))
    seeds = [request.sampling.seed for request in engine.submitted]
    assert seeds == [2**63 - 2, 2**63 - 1, -(2**63), None, None]


@pytest.mark.parametrize("steps", range(1, 5))
def test_chat_runner_resumes_each_choice_after_any_step(ledger: Ledger, steps: int) -> None:
    """Choices that have ended before the worker was lost do not run again, and keep their finish reason."""
    submit(ledger, "a", n=3)
    second = run_with_loss(ledger, script, steps, 3)
    job, events = ledger.get("a"), tokens_by_choice(ledger, "a")
    assert job.result
    assert job.usage
    assert [choice["text"] for choice in job.result["choices"]] == TEXTS
    assert job.usage["completion_tokens"] == sum(len(words) + 1 for words in WORDS)
    assert len(second.submitted) == sum(len(words) >= steps for words in WORDS)
    for index, each in events.items():
        assert "".join(event.data["text"] for event in each) == TEXTS[index]
        counts = [event.data["count"] for event in each]
        assert [event.data["index"] for event in each] == [sum(counts[:at]) for at in range(len(each))]
        assert [event.data.get("finish_reason") for event in each] == [None] * (len(each) - 1) + ["stop"]


@pytest.mark.parametrize("steps", range(3))
@pytest.mark.parametrize("n", [1, 2])
def test_chat_runner_logs_each_token_id_once(ledger: Ledger, n: int, steps: int) -> None:
    """The ids are those of the words, and the last one is that of the end-of-sequence token."""
    submit(ledger, "a", n=n, return_token_ids=True)
    run_with_loss(ledger, script, steps, n)
    events = [event.data for event in ledger.events("a") if event.type == "token"]
    for index in range(n):
        ids = [id_ for event in events if event.get("choice", 0) == index for id_ in event["token_ids"]]
        assert ids == list(range(len(WORDS[index]) + 1))
    prompts = [event["prompt_token_ids"] for event in events if "prompt_token_ids" in event]
    assert prompts == [events[0]["prompt_token_ids"]]
    assert len(prompts[0]) == 3
    assert [event["finish_reason"] for event in events if "finish_reason" in event] == ["stop"] * n


def test_chat_runner_cancels_all_choices(ledger: Ledger) -> None:
    submit(ledger, "a", n=3, max_tokens=100_000)
    engine = FakeEngine(["word"] * 100_000, step_s=0.001)
    with running(ledger, engine) as (runner, outbox):
        run = claim(ledger, outbox, "a")
        ledger.cancel("a")
        runner.run_job(run)
        eventually(lambda: not engine._running, "the end of all choices")
    assert ledger.get("a").state == "canceled"


class CrampedEngine(FakeEngine):
    """An engine that has no memory for the second choice of a chat after its first step."""

    def step(self) -> Sequence[Delta]:
        deltas = super().step()
        for request_id in [name for name in self._running if name.endswith(".1")]:
            del self._running[request_id]
            self._on_step([Delta(request_id, "", (), "error", OutOfMemory("the device is full"))])
        return deltas


def test_chat_runner_fails_chat_with_first_choice_that_fails(ledger: Ledger) -> None:
    submit(ledger, "a", n=3, max_tokens=100_000)
    engine = CrampedEngine(["word"] * 100_000, step_s=0.001)
    with running(ledger, engine) as (runner, outbox):
        runner.run_job(claim(ledger, outbox, "a"))
        eventually(lambda: not engine._running, "the end of the other choices")
    assert ledger.get("a").error == {"code": "out_of_memory", "message": "the device is full"}


def test_chat_runner_waits_for_choices_beyond_slots_of_engine(ledger: Ledger) -> None:
    submit(ledger, "a", n=3)
    with running(ledger, FakeEngine(script=script, slots=1, step_s=0.001)) as (runner, outbox):
        runner.run_job(claim(ledger, outbox, "a"))
    result = ledger.get("a").result
    assert result
    assert [choice["text"] for choice in result["choices"]] == TEXTS
