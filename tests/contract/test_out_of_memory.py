"""Tests of memory shortages: a step without enough memory ends requests but not the engine.

The tests make the model fail half way through a step.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import torch

from tests.support.chat.engines import StartedEngine, chat
from tests.support.chat.requests import with_sampling
from worker.chat.engine import ChatRequest, Delta
from worker.jobs.errors import OutOfMemory

if TYPE_CHECKING:
    from transformers.generation.continuous_batching.cache import PagedAttentionCache

    from worker.chat.checkpoint import LoadedModel

SLOTS = 4


def fail_like_cuda() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def fail_like_torch_on_cpu() -> None:
    torch.empty(2**60)


def fail_like_python() -> None:
    bytearray(2**60)


@pytest.fixture(scope="module")
def shared(serve: Callable[..., StartedEngine]) -> StartedEngine:
    return serve("transformers", slots=SLOTS, context_length=256)


@contextmanager
def shortage(loaded: "LoadedModel", fail: Callable[[], object], tokens: int | None = None) -> Iterator[None]:
    """Call `fail` in the next step in which a request has `tokens` input tokens; None means in every step."""
    failed = 0

    def before(layer: object, args: object, kwargs: dict[str, Any]) -> None:
        nonlocal failed
        if tokens is None or (tokens == kwargs["max_length_q"] and not failed):
            failed += 1
            fail()

    layer = loaded.model.get_submodule("model.layers.10")
    hook = layer.register_forward_pre_hook(before, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()
    assert failed


def cache_of(started: StartedEngine) -> "PagedAttentionCache":
    manager = started.engine._manager  # type: ignore[attr-defined]
    cache: PagedAttentionCache = manager.batch_processor.cache
    return cache


def make_requests(started: StartedEngine, count: int, max_tokens: int = 8) -> list[ChatRequest]:
    requests = [chat(started, str(n), f"Tell me about the number {n}.", max_tokens) for n in range(count)]
    return [with_sampling(request, temperature=float(n % 2), seed=n) for n, request in enumerate(requests)]


def assert_out_of_memory(deltas: Sequence[Delta]) -> None:
    assert deltas[-1].finish_reason == "error"
    assert isinstance(deltas[-1].error, OutOfMemory)


def said(*answers: Sequence[Delta]) -> list[list[Delta]]:
    """Return the answers without the numbers of cached tokens: what the cache still has, may differ."""
    return [[delta._replace(cached_tokens=0) for delta in deltas] for deltas in answers]


@pytest.mark.parametrize(
    "fail",
    [
        pytest.param(each, marks=pytest.mark.long)
        for each in (fail_like_cuda, fail_like_torch_on_cpu, fail_like_python)
    ],
)
def test_shortage_without_new_request_ends_all_running_but_not_waiting(
    started: StartedEngine, loaded: "LoadedModel", fail: Callable[[], object]
) -> None:
    requests = make_requests(started, SLOTS + 2)
    undisturbed = started.run_requests(*requests)
    with shortage(loaded, fail, tokens=1):
        runs = started.run_requests(*requests)
    for request in requests[:SLOTS]:
        assert_out_of_memory(runs[request.id])
    for request in requests[SLOTS:]:
        assert said(runs[request.id]) == said(undisturbed[request.id])
    assert said(*started.run_requests(*requests).values()) == said(*undisturbed.values())


@pytest.mark.long
def test_shortage_ends_new_request_and_others_continue_exactly(
    started: StartedEngine, loaded: "LoadedModel"
) -> None:
    others = make_requests(started, SLOTS - 1, max_tokens=20)
    undisturbed = started.run_requests(*others)
    newcomer = chat(started, "newcomer")

    def submit_at_fifth_step(deltas: Sequence[Delta]) -> None:
        if len(started.recorder.steps) == 5:
            started.engine.submit(newcomer)

    started.recorder.hook = submit_at_fifth_step
    with shortage(loaded, fail_like_cuda, tokens=len(newcomer.prompt)):
        runs = started.run_requests(*others)
        started.recorder.wait_for(lambda: bool(started.recorder.ends("newcomer")))
    assert_out_of_memory(started.recorder.deltas("newcomer"))
    assert said(*runs.values()) == said(*undisturbed.values())


@pytest.mark.long
def test_shortage_in_every_step_ends_each_request_once(started: StartedEngine, loaded: "LoadedModel") -> None:
    requests = make_requests(started, SLOTS + 3)
    undisturbed = started.run_requests(*requests)
    with shortage(loaded, fail_like_cuda):
        for deltas in started.run_requests(*requests).values():
            assert_out_of_memory(deltas)
            assert len(deltas) == 1
    assert said(*started.run_requests(*requests).values()) == said(*undisturbed.values())


@pytest.mark.long
def test_shortage_leaks_no_cache_block(started: StartedEngine, loaded: "LoadedModel") -> None:
    requests = make_requests(started, 2, max_tokens=3)
    cache = cache_of(started)
    for _ in range(20):
        with shortage(loaded, fail_like_cuda, tokens=1):
            for deltas in started.run_requests(*requests).values():
                assert_out_of_memory(deltas)
        assert cache.compute_free_capacity() == 1.0
    started.run_requests(*requests)
    assert cache.compute_free_capacity() < 1.0  # full blocks stay in the cache to be shared
    cache.evict_cached_blocks()
    assert cache.compute_free_capacity() == 1.0
    assert started.recorder.broken == []
