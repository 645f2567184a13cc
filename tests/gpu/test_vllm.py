"""Tests of the vLLM engine on CUDA in bfloat16 with CUDA graphs, as a worker runs it."""

import gc
import json
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.support.assets import asset
from tests.support.chat.engine_contract import ChatEngineContract
from tests.support.chat.engines import LONG_QUESTION, MODEL, SHORT_QUESTION, StartedEngine, chat, start_vllm
from tests.support.chat.reference import nats_short
from tests.support.chat.requests import chat_request
from tests.support.chat.schemas import CITY
from tests.support.chat.tiny_models import even_model
from worker.chat.checkpoint import load_model
from worker.chat.engine import Delta
from worker.chat.token_rules import rules_of
from worker.devices.gpus import list_gpus
from worker.jobs.errors import ConfigurationError, EngineDied

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not list_gpus(), reason="no CUDA device here"),
    pytest.mark.skipif(not find_spec("vllm"), reason="vLLM is not installed"),
    pytest.mark.filterwarnings("default"),  # torch and vLLM warn about their own code
]

#: Leaves GPU memory for the engines of other tests.
SHARE = {"gpu_memory_utilization": 0.3}
#: The tests compare the first tokens of this many requests, in this many rounds.
REQUESTS, ROUNDS = 10, 5
#: The most nats that bfloat16 may cost a token. On an H100 it cost at most 0.45 nats in 800 answers. It cost
#: 14 when vLLM read only a part of a prompt (its model runner V2 with CUDA graphs of the mode FULL).
ROUNDING_NATS = 1.0


def start(slots: int, context_length: int, gpus: int = 1, model: Path | None = None) -> StartedEngine:
    return start_vllm(slots, context_length, "cuda", gpus, SHARE, model)


@pytest.fixture(scope="module")
def gpu_unused() -> bool:
    """True if no test of this process used the GPU itself before vLLM started."""
    import torch

    return not torch.cuda.is_initialized()  # type: ignore[no-untyped-call]


@pytest.fixture(scope="module")
def warm_vllm(gpu_unused: bool) -> Iterator[tuple[StartedEngine, list[float]]]:
    """The engine, and the seconds to the first token of each of its first requests."""
    began = time.perf_counter()
    started = start(slots=64, context_length=1024)
    print(f"\nvLLM was warm after {time.perf_counter() - began:.1f} s")
    gc.collect()  # as a worker does after its warm-up: a collection would slow a first request
    gc.freeze()
    firsts = [first_token_s(started, n) for n in range(REQUESTS)]
    yield started, firsts
    started.engine.stop()


@pytest.fixture
def started(warm_vllm: tuple[StartedEngine, list[float]]) -> Iterator[StartedEngine]:
    started, _ = warm_vllm
    started.recorder.steps.clear()
    yield started
    started.recorder.hook = None


def first_token_s(started: StartedEngine, n: int) -> float:
    """Return the seconds from a request to its first token. No earlier prompt begins like this one."""
    request = chat(started, f"first {n}", f"{n} times: {LONG_QUESTION}", max_tokens=8)
    seen: list[float] = []

    def on_step(deltas: Sequence[Delta]) -> None:
        if not seen and any(delta.id == request.id for delta in deltas):
            seen.append(time.perf_counter())

    started.recorder.hook = on_step
    began = time.perf_counter()
    started.run_requests(request)
    started.recorder.hook = None
    return seen[0] - began


class TestVllmOnCuda(ChatEngineContract):
    """The requirements for every chat engine, with vLLM on CUDA."""


def test_vllm_first_request_is_as_fast_as_tenth(
    warm_vllm: tuple[StartedEngine, list[float]],
) -> None:
    started, firsts = warm_vllm
    tenths = [first_token_s(started, 100 + n) for n in range(ROUNDS)] + firsts[-1:]
    tenth = statistics.median(tenths)
    shown = ", ".join(f"{seconds * 1000:.1f}" for seconds in firsts)
    print(f"\nfirst tokens after {shown} ms: the first takes {firsts[0] / tenth:.2f} of the tenth")
    assert firsts[0] <= 1.5 * tenth


def test_vllm_knows_capital_of_japan(started: StartedEngine) -> None:
    started.run_requests(chat(started, "a", SHORT_QUESTION, max_tokens=40))
    assert "Tokyo" in started.recorder.text("a")


def test_vllm_batched_answers_are_the_models_own(started: StartedEngine) -> None:
    """Start some requests while others run. Each token must be that of float32, or nearly as likely."""
    crowd = [
        chat(started, str(n), f"{n} times: {LONG_QUESTION}", max_tokens=16 + n % 48, ignore_eos=True)
        for n in range(128)
    ]
    started.run_requests(*crowd)
    loaded = load_model(asset(MODEL), "cpu")
    short = [max(nats_short(loaded, one.prompt, started.recorder.ids(one.id))) for one in crowd]
    print(f"\n{len(crowd)} answers: no token is more than {max(short):.3f} nats below the model's own choice")
    assert max(short) < ROUNDING_NATS


def test_vllm_seed_draws_same_alone_and_batched(started: StartedEngine) -> None:
    assert started.engine._llm.vllm_config.use_v2_model_runner  # type: ignore[attr-defined]
    one = chat(started, "0", temperature=1.0, seed=11, max_tokens=8)
    crowd = [chat(started, str(n), temperature=1.0, seed=n + 50, max_tokens=8) for n in range(1, 8)]
    started.run_requests(one)
    alone = started.recorder.ids("0")
    started.run_requests(one, *crowd)
    assert started.recorder.ids("0") == alone
    assert len({started.recorder.ids(str(n)) for n in range(8)}) > 1


def test_vllm_seeded_answer_resumes_with_same_token(started: StartedEngine) -> None:
    """Compare the first token after each cut. Later ones may differ because bfloat16 rounds."""
    request = chat(started, "a", temperature=1.0, seed=7, max_tokens=24)
    started.run_requests(request)
    ids = started.recorder.ids("a")
    same = 0
    for n in range(4, 20):
        rest = chat_request(f"from {n}", request.prompt, 24, seed=7, generated_ids=ids[:n])
        started.run_requests(rest)
        same += started.recorder.ids(rest.id)[:1] == ids[n : n + 1]
    print(f"\n{same} of 16 resumed answers continue with the same token")
    assert same >= 12


@pytest.mark.parametrize(
    "options",
    [
        {"structured_outputs": {"json": CITY}},
        {"structured_outputs": {"json": CITY}, "temperature": 1.0, "seed": 7},
        {"presence_penalty": 1.5, "frequency_penalty": 1.0},
        {"frequency_penalty": 2.0, "repetition_penalty": 1.2, "temperature": 1.0, "seed": 7},
        {"bad_words": ["dragon", "a time", "there", "the"]},
        {"min_tokens": 40, "stop": ["a"]},
    ],
)
def test_vllm_answer_resumes_at_every_token(started: StartedEngine, options: dict[str, Any]) -> None:
    """Compare the first token after each cut. Few may differ, because bfloat16 rounds.

    A resumed answer obeys the schema, and contains no bad word, wherever it was cut.
    """
    assert options.keys() <= started.engine.supports
    request = chat(started, "a", LONG_QUESTION, max_tokens=80, **options)
    whole = started.run_requests(request)["a"]
    ids = started.recorder.ids("a")
    rest = [replace(request, id=f"from {n}", generated_ids=ids[:n]) for n in range(len(ids))]
    started.run_requests(*rest)
    same = sum(started.recorder.ids(f"from {n}")[:1] == ids[n : n + 1] for n in range(len(ids)))
    print(f"\n{same} of {len(ids)} resumed answers with {options} continue with the same token")
    rules = rules_of(request, started.engine.prompt_template.tokenizer)
    for n, one in enumerate(rest):
        if "structured_outputs" in options and started.recorder.ends(one.id)[0].finish_reason == "stop":
            text = "".join(delta.text for delta in whole[:n]) + started.recorder.text(one.id)
            jsonschema.validate(json.loads(text), CITY)
        joined = (*ids[:n], *started.recorder.ids(one.id))
        for word in rules.bad_words if rules else ():
            assert tuple(word) not in {joined[at : at + len(word)] for at in range(len(joined))}
    assert same >= 0.9 * len(ids)


def test_vllm_structured_answers_in_a_crowd_are_valid(started: StartedEngine) -> None:
    """Run them beside chats without a schema, more than slots at once."""
    options: dict[str, Any] = {"structured_outputs": {"json": CITY}, "temperature": 1.0}
    crowd = [chat(started, f"{n}", f"{n} times: {LONG_QUESTION}", 400, seed=n, **options) for n in range(96)]
    others = [chat(started, f"free {n}", LONG_QUESTION, 60, ignore_eos=True) for n in range(32)]
    started.run_requests(*crowd, *others)
    ended = [one.id for one in crowd if started.recorder.ends(one.id)[0].finish_reason == "stop"]
    for name in ended:
        jsonschema.validate(json.loads(started.recorder.text(name)), CITY)
    print(f"\n{len(ended)} of {len(crowd)} structured answers ended by themselves, and all of them are valid")
    assert len(ended) >= 0.9 * len(crowd)


def test_vllm_keeps_asynchronous_scheduling(started: StartedEngine) -> None:
    config = started.engine._llm.vllm_config.scheduler_config  # type: ignore[attr-defined]
    assert config.async_scheduling
    assert config.scheduler_cls.endswith("ResumingAsyncScheduler")


def test_vllm_leaves_worker_without_cuda_context(started: StartedEngine, gpu_unused: bool) -> None:
    import torch

    if not gpu_unused:
        pytest.skip("an earlier test of this process used the GPU itself")
    started.run_requests(chat(started, "a", max_tokens=2))
    assert not torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    assert os.getpid() not in processes_by_gpu()[0]


def processes_by_gpu() -> dict[int, set[int]]:
    """Return the ids of the processes that have a CUDA context, by GPU index."""
    import pynvml

    pynvml.nvmlInit()
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(n) for n in range(pynvml.nvmlDeviceGetCount())]
        running = [pynvml.nvmlDeviceGetComputeRunningProcesses(handle) for handle in handles]
        return {n: {process.pid for process in processes} for n, processes in enumerate(running)}
    finally:
        pynvml.nvmlShutdown()


def test_vllm_tokens_per_second_with_all_slots_busy(started: StartedEngine) -> None:
    requests = [chat(started, str(n), max_tokens=128, ignore_eos=True) for n in range(64)]
    began = time.perf_counter()
    started.run_requests(*requests)
    seconds = time.perf_counter() - began
    assert all(len(started.recorder.ids(request.id)) == 128 for request in requests)
    print(f"\n64 chats of 128 tokens: {64 * 128 / seconds:.0f} tokens/s")


def test_vllm_killed_engine_ends_every_request_and_reports_once(
    warm_vllm: tuple[StartedEngine, list[float]],
) -> None:
    """Kill the engine. This must be the last test that uses it."""
    started, _ = warm_vllm
    for name in "abc":
        started.engine.submit(chat(started, name, max_tokens=800, ignore_eos=True))
    started.recorder.wait_for(lambda: all(started.recorder.deltas(name) for name in "abc"))
    words = started.break_down()
    started.recorder.wait_for(lambda: bool(started.recorder.broken))
    ends = [end for name in "abc" for end in started.recorder.ends(name)]
    assert len(ends) == 3
    assert all(isinstance(end.error, EngineDied) and words in str(end.error) for end in ends)
    assert len(started.recorder.broken) == 1
    with pytest.raises(EngineDied):
        started.engine.submit(chat(started, "late"))


needs_two_gpus = pytest.mark.skipif(len(list_gpus()) < 2, reason="one GPU: tensor parallel needs two")


@needs_two_gpus
def test_vllm_splits_model_over_two_gpus(tmp_path: Path) -> None:
    started = start(slots=4, context_length=512, gpus=2, model=even_model(tmp_path))
    try:
        assert sum(map(bool, processes_by_gpu().values())) >= 2  # there may be more GPUs
        requests = [chat(started, str(n), max_tokens=20, ignore_eos=True) for n in range(4)]
        started.run_requests(*requests)
        assert [len(started.recorder.ids(str(n))) for n in range(4)] == [20] * 4
    finally:
        started.engine.stop()


@needs_two_gpus
def test_vllm_refuses_heads_that_gpus_cannot_share() -> None:
    with pytest.raises(ConfigurationError, match="attention heads"):
        start(slots=4, context_length=512, gpus=2)
