"""Tests of the engines that run a model: they give the model's own answers and draw by top-p and seed."""

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.support.chat.engines import LONG_QUESTION, MODEL_ENGINES, StartedEngine, encode
from tests.support.chat.prefix_hits import counted_prefix_hits
from tests.support.chat.reference import NEW_TOKENS, QUESTIONS, assert_as_generated
from tests.support.chat.requests import chat_request, with_sampling
from tests.support.stack import eventually
from worker.chat.engine import ChatRequest

if TYPE_CHECKING:
    from worker.chat.checkpoint import LoadedModel

pytestmark = pytest.mark.parametrize("engine_name", MODEL_ENGINES, indirect=True, scope="session")


def test_model_engine_knows_capital_of_japan(started: StartedEngine) -> None:
    ids = encode(started, QUESTIONS[0])
    started.run_requests(chat_request("a", ids, 40, temperature=0.0))
    assert "Tokyo" in started.recorder.text("a")
    assert started.recorder.ends("a")[0].finish_reason == "stop"


@pytest.fixture(scope="module")
def batched_answers(shared: StartedEngine) -> dict[str, str]:
    shared.run_requests(*[greedy(shared, text) for text in QUESTIONS])
    return {text: shared.recorder.text(text) for text in QUESTIONS}


def greedy(started: StartedEngine, text: str) -> ChatRequest:
    return chat_request(text, encode(started, text), NEW_TOKENS, temperature=0.0)


@pytest.mark.parametrize(
    "text", [QUESTIONS[0], *(pytest.param(text, marks=pytest.mark.long) for text in QUESTIONS[1:4])]
)
def test_model_engine_greedy_equals_generate(
    started: StartedEngine, loaded: "LoadedModel", batched_answers: dict[str, str], text: str
) -> None:
    request = greedy(started, text)
    started.run_requests(request)
    assert_as_generated(loaded, request.prompt, [started.recorder.text(text), batched_answers[text]])


@pytest.mark.long
def test_model_engine_seed_draws_same_alone_and_batched(started: StartedEngine) -> None:
    requests = [
        chat_request(text, encode(started, text), 24, temperature=0.9, top_p=0.95, seed=n)
        for n, text in enumerate(QUESTIONS)
    ]
    started.run_requests(*requests)
    together = {text: started.recorder.text(text) for text in QUESTIONS}
    for request in requests[:3]:
        started.run_requests(request)
        assert started.recorder.text(request.id) == together[request.id]


@pytest.mark.long
def test_model_engine_draws_differ_by_seed_and_without_seed(started: StartedEngine) -> None:
    ids = encode(started, QUESTIONS[1])
    requests = [chat_request(str(n), ids, 16, seed=n if n < 4 else None) for n in range(8)]
    started.run_requests(*requests)
    assert len({started.recorder.text(str(n)) for n in range(8)}) == 8


@pytest.mark.long
def test_model_engine_tiny_top_p_is_greedy(started: StartedEngine) -> None:
    ids = encode(started, QUESTIONS[2])
    started.run_requests(
        chat_request("greedy", ids, 24, temperature=0.0),
        chat_request("narrow", ids, 24, temperature=1.5, top_p=1e-6, seed=5),
        chat_request("wide", ids, 24, temperature=1.5, seed=5),
    )
    assert started.recorder.text("narrow") == started.recorder.text("greedy") != started.recorder.text("wide")


@pytest.mark.long
def test_model_engine_seed_minus_one_is_a_seed(started: StartedEngine) -> None:
    ids = encode(started, QUESTIONS[1])
    started.run_requests(*[chat_request(str(n), ids, 16, seed=-1) for n in range(2)])
    assert started.recorder.ids("0") == started.recorder.ids("1")


def test_model_engine_shares_prefix_only_with_same_cache_salt(started: StartedEngine) -> None:
    """The answer completes a block of the cache: vLLM's have 128 tokens on the CPU, and transformers' 32."""
    prompt = encode(started, f"Salt in caches. {LONG_QUESTION * 18}")[:250]
    first = chat_request("a", prompt, 8, temperature=0.0, ignore_eos=True, cache_salt="alice")
    reported = list[int]()
    with counted_prefix_hits(started) as hits:
        answer = started.run_requests(first)["a"]
        longer = [*prompt, *started.recorder.ids("a")]
        again = [replace(first, cache_salt=salt) for salt in ("bob", "", "alice")]
        continued = replace(with_sampling(first, max_tokens=1), prompt=longer)
        for request in [*again, *(replace(continued, cache_salt=salt) for salt in ("carol", "alice"))]:
            deltas = started.run_requests(request)["a"]
            reported.append(sum(delta.cached_tokens for delta in deltas))
            if request in again:
                assert [delta._replace(cached_tokens=0) for delta in deltas] == answer
    cold, bob, nobody, alice, carol, alice_continues = hits
    assert (cold, bob, nobody, carol) == (0, 0, 0, 0)
    assert 128 <= alice < alice_continues == 256
    assert reported == hits[1:]


def test_model_engine_stats_tell_use_of_cache(started: StartedEngine) -> None:
    """The usage rises while a request runs, and falls when it is canceled. Prompts count as queries once."""
    engine, before = started.engine, started.engine.stats()
    prompt = encode(started, f"Figures of caches. {LONG_QUESTION * 18}")[:200]
    long = chat_request("long", prompt, 300, temperature=0.0, ignore_eos=True, cache_salt="figures")
    engine.submit(long)
    eventually(lambda: engine.stats().kv_cache_usage > 0, "use of the cache")
    engine.cancel(long.id)
    eventually(lambda: engine.stats().kv_cache_usage == 0, "an empty cache")
    again = started.run_requests(with_sampling(long, max_tokens=2))[long.id]
    eventually(lambda: engine.stats().prefix_cache_queries >= before.prefix_cache_queries + 400, "counts")
    after = engine.stats()
    assert after.prefix_cache_queries - before.prefix_cache_queries == 2 * len(prompt)
    assert after.prefix_cache_hits - before.prefix_cache_hits == again[0].cached_tokens >= 128
    assert after.preemptions == before.preemptions
