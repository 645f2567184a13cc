"""A step for which there is no memory ends requests, not the engine; the model fails half way through it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from tests.contract.conftest import Served, chat
from worker.chat.engine import ChatRequest, Delta
from worker.jobs.errors import OutOfMemory

if TYPE_CHECKING:
    from transformers.generation.continuous_batching.cache import PagedAttentionCache

    from worker.chat.checkpoint import LoadedModel

SLOTS = 4


def full_device() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def full_host() -> None:
    torch.empty(2**60)


def full_heap() -> None:
    bytearray(2**60)


@pytest.fixture(scope="module")
def shared(serve: Callable[..., Served]) -> Served:
    return serve("transformers", slots=SLOTS, context_length=256)


@contextmanager
def shortage(loaded: "LoadedModel", fail: Callable[[], object], tokens: int | None = None) -> Iterator[None]:
    """Fail in the next step in which a request brings so many `tokens`; None: in every step."""
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


def cache_of(served: Served) -> "PagedAttentionCache":
    manager = served.engine._manager  # type: ignore[attr-defined]
    cache: PagedAttentionCache = manager.batch_processor.cache
    return cache


def crowd(served: Served, count: int, max_tokens: int = 8) -> list[ChatRequest]:
    requests = [chat(served, str(n), f"Tell me about the number {n}.", max_tokens) for n in range(count)]
    return [replace(request, temperature=n % 2, seed=n) for n, request in enumerate(requests)]


def assert_out_of_memory(deltas: Sequence[Delta]) -> None:
    assert deltas[-1].finish_reason == "error"
    assert isinstance(deltas[-1].error, OutOfMemory)


@pytest.mark.parametrize("fail", [full_device, full_host, full_heap])
def test_all_that_run_end_if_none_is_new_and_those_that_wait_are_served(
    served: Served, loaded: "LoadedModel", fail: Callable[[], object]
) -> None:
    requests = crowd(served, SLOTS + 2)
    as_ever = served.recorder.run(served.engine, *requests)
    with shortage(loaded, fail, tokens=1):
        runs = served.recorder.run(served.engine, *requests)
    for request in requests[:SLOTS]:
        assert_out_of_memory(runs[request.id])
    for request in requests[SLOTS:]:
        assert runs[request.id] == as_ever[request.id]
    assert served.recorder.run(served.engine, *requests) == as_ever


def test_a_new_request_ends_and_the_others_go_on_exactly(served: Served, loaded: "LoadedModel") -> None:
    others = crowd(served, SLOTS - 1, max_tokens=20)
    as_ever = served.recorder.run(served.engine, *others)
    newcomer = chat(served, "newcomer")

    def submit_at_fifth_step(deltas: Sequence[Delta]) -> None:
        if len(served.recorder.steps) == 5:
            served.engine.submit(newcomer)

    served.recorder.hook = submit_at_fifth_step
    with shortage(loaded, full_device, tokens=len(newcomer.prompt)):
        runs = served.recorder.run(served.engine, *others)
        served.recorder.wait_for(lambda: bool(served.recorder.ends("newcomer")))
    assert_out_of_memory(served.recorder.deltas("newcomer"))
    assert runs == as_ever


def test_a_shortage_without_end_ends_every_request_once(served: Served, loaded: "LoadedModel") -> None:
    requests = crowd(served, SLOTS + 3)
    as_ever = served.recorder.run(served.engine, *requests)
    with shortage(loaded, full_device):
        for deltas in served.recorder.run(served.engine, *requests).values():
            assert_out_of_memory(deltas)
            assert len(deltas) == 1
    assert served.recorder.run(served.engine, *requests) == as_ever


@pytest.mark.slow
def test_no_block_of_the_cache_leaks(served: Served, loaded: "LoadedModel") -> None:
    requests = crowd(served, 2, max_tokens=3)
    cache = cache_of(served)
    for _ in range(20):
        with shortage(loaded, full_device, tokens=1):
            for deltas in served.recorder.run(served.engine, *requests).values():
                assert_out_of_memory(deltas)
        assert cache.compute_free_capacity() == 1.0
    served.recorder.run(served.engine, *requests)
    assert cache.compute_free_capacity() < 1.0  # full blocks are kept, to be shared
    cache.evict_cached_blocks()
    assert cache.compute_free_capacity() == 1.0
    assert served.recorder.broken == []
