"""Tests of the stack and the transformers engine on CUDA; skipped on machines without a CUDA device."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.gpu.ballast import fill_device
from tests.support.assets import asset
from tests.support.chat.engines import MODEL, SHORT_QUESTION
from tests.support.chat.recorder import Recorder
from tests.support.chat.requests import chat_request, with_sampling
from tests.support.stack import Stack, eventually, free_port
from worker.chat.transformers_engine.engine import TransformersEngine
from worker.devices.gpus import list_gpus
from worker.jobs.errors import OutOfMemory
from worker.jobs.settings import Settings

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not list_gpus(), reason="no CUDA device here"),
]


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Stack]:
    """A stack that `stoker up` has started with the devices that it chooses itself."""
    port = free_port()
    stack = Stack(Settings(home=tmp_path, port=port, url=f"http://127.0.0.1:{port}"))
    stack.start("up", "up")
    eventually(stack.ready, "a ready stack", 240)
    yield stack
    assert stack.stop("up") == 0
    stack.http.close()


def test_stack_runs_chats_on_first_gpu_by_uuid(up: Stack) -> None:
    workers = {worker["kind"]: worker for worker in up.http.get("/v1/workers").json()["workers"]}
    first, *others = list_gpus()
    assert workers["chat"]["device"] == first.uuid
    assert workers["video"]["device"] in ([gpu.uuid for gpu in others] or ["cpu"])
    assert workers["chat"]["memory"]["source"] == "cuda"
    assert workers["chat"]["memory"]["allocated"] > 10**8
    job, events = up.finished(up.chat(SHORT_QUESTION, temperature=0))
    assert "Tokyo" in job["result"]["text"]
    assert (job["device"], events[1]["device"]) == (first.uuid, first.uuid)
    chats = [up.chat("Tell a story.", seed=n, max_tokens=100) for n in range(12)]
    up.cancel(chats[0])
    states = [up.finished(chat)[0]["state"] for chat in chats]
    assert set(states[1:]) == {"succeeded"}


def test_transformers_full_gpu_ends_chat_but_not_engine() -> None:
    import torch

    ballast: list[torch.Tensor] = []
    engine = TransformersEngine(asset(MODEL), "cuda", slots=4)
    recorder = Recorder()
    engine.start(recorder.on_step, recorder.on_broken)
    request = chat_request("a", range(100, 200), 8, temperature=0.0)  # a size without a CUDA graph so far
    try:
        fill_device(ballast)
        [*_, last] = recorder.run_requests(engine, request)["a"]
        assert isinstance(last.error, OutOfMemory)
        ballast.clear()
        torch.cuda.empty_cache()
        [*_, last] = recorder.run_requests(engine, request)["a"]
        assert last.finish_reason in ("stop", "length")
    finally:
        engine.stop()
    assert recorder.broken == []


def test_transformers_min_tokens_holds_in_cuda_graphs() -> None:
    engine = TransformersEngine(asset(MODEL), "cuda", slots=4)
    recorder = Recorder()
    engine.start(recorder.on_step, recorder.on_broken)
    prompt = engine.prompt_template.encode([{"role": "user", "content": SHORT_QUESTION}])
    request = chat_request("as ever", prompt, 30, temperature=0.0)
    try:
        for _ in range(3):  # from the second round on the steps replay CUDA graphs
            recorder.run_requests(
                engine,
                request,
                with_sampling(replace(request, id="longer"), min_tokens=20),
                with_sampling(replace(request, id="on and on"), ignore_eos=True),
            )
            assert len(recorder.ids("as ever")) < 20 <= len(recorder.ids("longer"))
            assert len(recorder.ids("on and on")) == 30
    finally:
        engine.stop()
