"""The chat runner and its transcripts, with a fake engine."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from tests.support.chat.fake_engine import FakeEngine
from tests.support.ledger import append_of
from tests.support.metrics import raised
from tests.support.newer_events import NewerToken, Remark
from tests.support.stack import eventually
from worker.chat.engine import ChatRequest, Delta, OnBroken, OnStep
from worker.chat.runner import HANG_S, ChatRunner
from worker.jobs.chat.sampling import COMMON_PARAMETERS
from worker.jobs.dispatch.dispatcher import Dispatcher
from worker.jobs.errors import EngineDied, OutOfMemory, Unsupported
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.prompt.packed_prompt import pack
from worker.jobs.prompt.template import PROMPT_FEATURES, PromptTemplate
from worker.jobs.specs import ChatJob, validate
from worker.runs.outbox import Outbox
from worker.runs.run import Run

WAIT_S = 20.0
WORDS = ("one", " two", " three", " four")
#: Token ids of a prompt that is long enough to travel with its job.
LONG_PROMPT = [7, 8, 9] * 200


@contextmanager
def running(
    ledger: Ledger,
    engine: FakeEngine,
    *,
    hang_s: float = HANG_S,
    on_broken: OnBroken = lambda error: None,
    coalesce_max_s: float = 0.25,
) -> Iterator[tuple[ChatRunner, Outbox]]:
    """Run a chat runner and an outbox within the block."""
    outbox = Outbox(Dispatcher(ledger.store), coalesce_max_s=coalesce_max_s)
    runner = ChatRunner(engine, "fake", ledger, outbox, hang_s=hang_s)
    runner.start(on_broken)
    outbox.start()
    try:
        yield runner, outbox
    finally:
        runner.stop()
        outbox.stop(WAIT_S)


def submit(ledger: Ledger, job_id: str, owner: str = "", **options: object) -> None:
    body = {"messages": [{"role": "user", "content": "count"}], **options}
    ledger.submit(job_id, "chat.fake", validate(ChatJob, body), owner)


def claim(ledger: Ledger, outbox: Outbox, job_id: str) -> Run:
    record = ledger.claim(job_id, "w", "cpu")
    assert record is not None
    return Run(record, outbox)


def usage(completion_tokens: int, cached_tokens: int = 0) -> dict[str, Any]:
    """Return the usage of a chat whose prompt has three tokens."""
    return {
        "prompt_tokens": 3,
        "completion_tokens": completion_tokens,
        "total_tokens": 3 + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": cached_tokens},
    }


def logged_tokens(ledger: Ledger, job_id: str) -> list[tuple[int, int, str]]:
    """Return the index, count and text of each token event."""
    tokens = [event.data for event in ledger.events(job_id) if event.type == "token"]
    return [(token["index"], token["count"], token["text"]) for token in tokens]


def test_chat_runner_refuses_parameters_that_its_engine_lacks(ledger: Ledger) -> None:
    """The API knows only the worker of the model that has started last."""
    submit(ledger, "a", seed=1)
    engine = FakeEngine(WORDS, step_s=0.001)
    engine.supports = COMMON_PARAMETERS - {"seed"}
    with (
        running(ledger, engine) as (runner, outbox),
        pytest.raises(Unsupported, match="the engine fake does not support seed"),
    ):
        runner.run_job(claim(ledger, outbox, "a"))
    supported = {"n", "return_token_ids", "tools", *PROMPT_FEATURES, *engine.supports}
    assert runner.sampling == supported | {"parallel_tool_calls"}
    assert engine.submitted == []


def test_chat_runner_names_adapter_and_refuses_one_that_it_lacks(ledger: Ledger) -> None:
    submit(ledger, "a", model="sql")
    submit(ledger, "b", model="fake")
    submit(ledger, "c", model="other")
    engine = FakeEngine(WORDS, step_s=0.001)
    with running(ledger, engine) as (runner, outbox):
        runner.adapters = ("sql",)
        for job_id in "ab":
            runner.run_job(claim(ledger, outbox, job_id))
        with pytest.raises(Unsupported, match="no LoRA adapter other"):
            runner.run_job(claim(ledger, outbox, "c"))
    assert [request.adapter for request in engine.submitted] == ["sql", ""]


def test_chat_runner_renders_the_prompt_that_the_api_counts(ledger: Ledger) -> None:
    tool = {"type": "function", "function": {"name": "f"}}
    submit(ledger, "a", truncate_prompt_tokens=2, tools=[tool], tool_choice="none")
    submit(ledger, "b", messages=[{"role": "tool", "tool_call_id": "c", "content": "count"}])
    submit(ledger, "c", messages=None, prompt="count count")
    submit(ledger, "d", messages=None, prompt=[1, 0])
    engine = FakeEngine(WORDS, step_s=0.001)
    with running(ledger, engine) as (runner, outbox):
        for job_id in "abcd":
            runner.run_job(claim(ledger, outbox, job_id))
    for job_id, request in zip("abcd", engine.submitted, strict=True):
        job = ledger.get(job_id).spec
        assert isinstance(job, ChatJob)
        assert request.prompt == engine.prompt_template.encode_job(job, engine.context_length)
    assert len(engine.submitted[0].prompt) == 2
    assert len(engine.submitted[1].prompt) > 3
    assert engine.submitted[3].prompt == [1, 0]


def test_chat_runner_logs_tokens_result_and_usage(ledger: Ledger) -> None:
    submit(ledger, "a")
    with running(ledger, FakeEngine(WORDS, step_s=0.001)) as (runner, outbox):
        runner.run_job(claim(ledger, outbox, "a"))
    job = ledger.get("a")
    assert (job.state, job.done) == ("succeeded", 5)  # the words and the end-of-sequence token
    assert job.result == {"text": "one two three four", "finish_reason": "stop"}
    assert job.usage == usage(5)
    assert "".join(text for _, _, text in logged_tokens(ledger, "a")) == "one two three four"
    assert sum(count for _, count, _ in logged_tokens(ledger, "a")) == 4


def test_chat_runner_reports_cached_tokens_of_prompt(ledger: Ledger) -> None:
    submit(ledger, "a")
    submit(ledger, "b", n=2)
    engine = FakeEngine(WORDS, step_s=0.001)
    engine.cached_tokens = 2
    with running(ledger, engine) as (runner, outbox):
        for name in "ab":
            runner.run_job(claim(ledger, outbox, name))
    assert ledger.get("a").usage == usage(5, cached_tokens=2)
    assert ledger.get("b").usage == usage(10, cached_tokens=2)  # the prompt counts once


def test_chat_runner_logs_logprobs_with_the_text_of_their_tokens(ledger: Ledger) -> None:
    """The stop string holds back the text of "three", and its token is logged with it."""
    submit(ledger, "a", logprobs=True, stop=["three five"])
    submit(ledger, "b")
    engine = FakeEngine(WORDS, step_s=0.001)
    engine.supports = COMMON_PARAMETERS | {"logprobs"}
    with running(ledger, engine) as (runner, outbox):
        for name in "ab":
            runner.run_job(claim(ledger, outbox, name))
    events = [event.data for event in ledger.events("a") if event.type == "token"]
    for event in events:
        assert "".join(entry["token"] for entry in event["logprobs"]) == event["text"]
        assert len(event["logprobs"]) == event["count"]
    assert "".join(event["text"] for event in events) == "one two three four"
    assert not [event for event in ledger.events("b") if "logprobs" in event.data]


@contextmanager
def stepping(
    ledger: Ledger, *names: str, outbox: Outbox | None = None
) -> Iterator[tuple[FakeEngine, Outbox]]:
    """Run jobs of these names on an engine that the test steps. The test must also start the outbox."""
    engine, outbox = FakeEngine(WORDS), outbox or Outbox(Dispatcher(ledger.store))
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


def test_chat_runner_merges_pending_tokens_into_one_event(ledger: Ledger) -> None:
    with stepping(ledger, "a", "b") as (engine, outbox):
        for _ in WORDS:
            engine.step()
        outbox.start()
        engine.step()
    assert logged_tokens(ledger, "a") == logged_tokens(ledger, "b") == [(0, 4, "one two three four")]
    assert [event.type for event in ledger.events("a")] == ["queued", "started", "token", "succeeded"]


def test_chat_runner_defers_tokens_between_first_and_terminal_event(ledger: Ledger) -> None:
    slow = Outbox(Dispatcher(ledger.store), coalesce_factor=1e9, coalesce_max_s=10 * WAIT_S)
    with stepping(ledger, "a", outbox=slow) as (engine, outbox):
        outbox.start()
        engine.step()
        eventually(lambda: logged_tokens(ledger, "a"), "the first token")
        for _ in WORDS:
            engine.step()
    assert logged_tokens(ledger, "a") == [(0, 1, "one"), (1, 3, " two three four")]
    assert ledger.get("a").state == "succeeded"


@pytest.mark.parametrize("shared", [False, True])
def test_chat_runner_salts_prompts_by_owner_unless_prefixes_are_shared(ledger: Ledger, shared: bool) -> None:
    owners = ["6f0c1d2e3a4b", "6f0c1d2e3a4b", "0123456789ab", ""]
    engine, outbox = FakeEngine(WORDS, step_s=0.001), Outbox(Dispatcher(ledger.store))
    runner = ChatRunner(engine, "fake", ledger, outbox, shared_prefix_cache=shared)
    runner.start(lambda error: None)
    outbox.start()
    for n, owner in enumerate(owners):
        submit(ledger, str(n), owner=owner)
        runner.run_job(claim(ledger, outbox, str(n)))
    runner.stop()
    outbox.stop(WAIT_S)
    salts = [request.cache_salt for request in engine.submitted]
    assert not any(owner and owner in salt for owner in owners for salt in salts)
    if shared:
        assert salts == [""] * 4
    else:
        assert salts[0] == salts[1]
        assert len(set(salts)) == 3
        assert all(salt.isalnum() for salt in salts)  # vLLM's caches refuse some other characters


@pytest.mark.parametrize("control_tokens", [False, True])
def test_chat_runner_publishes_whether_messages_may_contain_control_tokens(
    ledger: Ledger, control_tokens: bool
) -> None:
    runner = ChatRunner(
        FakeEngine(), "fake", ledger, Outbox(Dispatcher(ledger.store)), control_tokens=control_tokens
    )
    runner.start(lambda error: None)
    assert PromptTemplate.from_json(runner.prompt).control_tokens is control_tokens


def test_chat_runner_resumes_after_logged_tokens_of_newer_worker(ledger: Ledger) -> None:
    submit(ledger, "a", max_tokens=5)
    ledger.claim("a", "dead", "cpu")
    ledger.append(
        [append_of(ledger, "a", 3, [Remark(), NewerToken("one two", 0, 2, "0 1")], {"done": 3})]
    )  # the text of one more token was held back
    ledger.requeue("a", "dead", "drain")
    engine = FakeEngine(WORDS, step_s=0.001)
    with running(ledger, engine) as (runner, outbox):
        runner.run_job(claim(ledger, outbox, "a"))
    [request] = engine.submitted
    assert (len(request.prompt), request.generated_ids, request.sampling.max_tokens) == (3, (0, 1), 5)
    job = ledger.get("a")
    assert job.done == 5
    assert job.result == {"text": "one two three four", "finish_reason": "stop"}
    assert job.usage == usage(5)
    first, *rest = logged_tokens(ledger, "a")
    assert first == (0, 2, "one two")
    assert rest[0][0] == 2
    assert "".join(text for _, _, text in rest) == " three four"


def run_with_loss(
    ledger: Ledger, script: Callable[[ChatRequest], Sequence[str]], steps: int, n: int = 1
) -> FakeEngine:
    """Run the job "a" for some steps, lose its worker, and let another one finish it. Return its engine."""
    engine = FakeEngine(script=script)
    with running(ledger, engine, coalesce_max_s=0) as (runner, outbox):
        run = claim(ledger, outbox, "a")
        thread = threading.Thread(target=runner.run_job, args=(run,))
        thread.start()
        eventually(lambda: len(engine.submitted) == n, "the requests")
        for _ in range(steps):
            engine.step()
            assert run.emit().result(WAIT_S) == "ok"  # each flush logs what there is
        run.abandon()
        thread.join(WAIT_S)
    ledger.requeue("a", "w", "drain")
    second = FakeEngine(script=script, step_s=0.001)
    with running(ledger, second) as (runner, outbox):
        runner.run_job(claim(ledger, outbox, "a"))
    return second


@pytest.mark.parametrize("steps", range(1, 10))
def test_chat_runner_resumes_to_same_answer_after_any_step(ledger: Ledger, steps: int) -> None:
    words = ("one", " two", " <", "/", "st", " three", " four", " </", "stop", ">", " five")
    submit(ledger, "a", stop=["</stop>"])
    run_with_loss(ledger, lambda request: words, steps)

    job = ledger.get("a")
    text = "one two </st three four "
    assert job.result == {"text": text, "finish_reason": "stop"}
    assert job.usage == usage(10)
    tokens = logged_tokens(ledger, "a")
    assert "".join(text for _, _, text in tokens) == text
    assert [index for index, _, _ in tokens] == [
        sum(n for _, n, _ in tokens[:at]) for at in range(len(tokens))
    ]
    model = "fake 0"
    chats = {"time_to_first_token_seconds", "e2e_request_latency_seconds", "request_queue_time_seconds"}
    chats |= {"request_prefill_time_seconds", "request_decode_time_seconds", "request_generation_tokens"}
    chats |= {"request_time_per_output_token_seconds", "request_prompt_tokens", "request_params_max_tokens"}
    found = raised(ledger)
    between = found.pop(f"vllm:inter_token_latency_seconds {model}")
    assert 0 < between <= 8  # not between the attempts, nor those of the lost worker's last second
    gaps = found.get("stoker_resume_gap_seconds chat.fake drain", 0)
    assert gaps == any(event.data["attempt"] == 2 for event in ledger.events("a") if event.type == "token")
    assert {name: n for name, n in found.items() if name.startswith("vllm:")} == {
        f"vllm:prompt_tokens_total {model}": 3,
        f"vllm:generation_tokens_total {model}": 10,
        f"vllm:request_success_total {model} stop": 1,
        **{f"vllm:{name} {model}": 1 for name in chats},
    }


class FullEngine(FakeEngine):
    """An engine that ends every chat, because the memory of its device is full."""

    def start(self, on_step: OnStep, on_broken: OnBroken) -> None:
        self._report = on_step
        super().start(on_step, on_broken)

    def submit(self, request: ChatRequest) -> None:
        self._report([Delta(request.id, "", (), "error", OutOfMemory("the device is full"))])


def test_chat_runner_fails_job_that_runs_out_of_memory(ledger: Ledger) -> None:
    submit(ledger, "a")
    with running(ledger, FullEngine()) as (runner, outbox):
        runner.run_job(claim(ledger, outbox, "a"))
    assert ledger.get("a").error == {"code": "out_of_memory", "message": "the device is full"}


def test_chat_runner_cancels_while_all_text_is_held_back(ledger: Ledger) -> None:
    submit(ledger, "a", stop=["x" * 200], max_tokens=100_000)
    engine = FakeEngine(["x"] * 199 + ["y"] + ["x"] * 100_000, step_s=0.001)
    with running(ledger, engine) as (runner, outbox):
        run = claim(ledger, outbox, "a")
        ledger.cancel("a")
        runner.run_job(run)
    job = ledger.get("a")
    assert job.state == "canceled"
    assert job.done < 150


def test_chat_runner_cancel_frees_engine_slot(ledger: Ledger) -> None:
    submit(ledger, "long")
    submit(ledger, "next", max_tokens=2)
    engine = FakeEngine(WORDS * 10_000, slots=1, step_s=0.001)
    with running(ledger, engine) as (runner, outbox):
        run = claim(ledger, outbox, "long")
        thread = threading.Thread(target=runner.run_job, args=(run,))
        thread.start()
        ledger.cancel("long")  # the reply to the next append says so
        thread.join(WAIT_S)
        assert not thread.is_alive()
        runner.run_job(claim(ledger, outbox, "next"))
    assert ledger.get("long").state == "canceled"
    assert ledger.get("long").usage is not None
    assert ledger.get("next").state == "succeeded"


def test_chat_runner_reports_engine_that_hangs(ledger: Ledger) -> None:
    submit(ledger, "a")
    outbox, errors = Outbox(Dispatcher(ledger.store)), list[BaseException]()
    runner = ChatRunner(FakeEngine(), "fake", ledger, outbox, hang_s=0.05)
    run = claim(ledger, outbox, "a")

    def on_broken(error: BaseException) -> None:
        errors.append(error)
        run.abandon()  # as a worker does when it hands the job back

    runner.start(on_broken)
    runner.run_job(run)
    assert [str(error) for error in errors] == ["the chat engine has produced no token for 0 s"]
    assert isinstance(errors[0], EngineDied)


class HangingEngine(FakeEngine):
    """An engine that takes no step, but reports a cancel at once.

    vLLM does so, because its engine is a process apart from the one that takes cancels.
    """

    def start(self, on_step: OnStep, on_broken: OnBroken) -> None:
        self._report = on_step
        super().start(on_step, on_broken)

    def cancel(self, request_id: str) -> None:
        self._report([Delta(request_id, "", (), "canceled")])


def test_chat_runner_reports_engine_that_hangs_despite_cancels(ledger: Ledger) -> None:
    """Run chats one after the other, each for a shorter time than the runner waits for an engine."""
    outbox, broken = Outbox(Dispatcher(ledger.store)), threading.Event()
    runner = ChatRunner(HangingEngine(), "fake", ledger, outbox, hang_s=1.0)
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


def test_chat_runner_accepts_long_chat_of_stepping_engine(ledger: Ledger) -> None:
    submit(ledger, "a", max_tokens=50)
    engine, errors = FakeEngine((" word",) * 100, step_s=0.05), list[BaseException]()
    with running(ledger, engine, hang_s=2.0, on_broken=errors.append) as (runner, outbox):
        runner.run_job(claim(ledger, outbox, "a"))
    assert not errors
    assert ledger.get("a").state == "succeeded"


@pytest.mark.parametrize("travels", [True, False])
def test_runner_tokenises_only_prompts_whose_ids_did_not_travel(ledger: Ledger, travels: bool) -> None:
    engine = FakeEngine(WORDS, step_s=0.001)
    template = engine.prompt_template if travels else replace(engine.prompt_template, control_tokens=True)
    spec = validate(ChatJob, {"messages": [{"role": "user", "content": "count"}]})
    ledger.submit("a", "chat.fake", spec, prompt=pack(template, spec, LONG_PROMPT))
    with running(ledger, engine) as (runner, outbox):
        runner.run_job(claim(ledger, outbox, "a"))
    assert [*engine.submitted[0].prompt] == (LONG_PROMPT if travels else [1, 0, 2])
