"""What every engine with a model has to show: the model's own words, and draws by top-p and seed."""

from typing import TYPE_CHECKING

import pytest

from tests.contract.conftest import REAL, Served
from tests.support.reference import NEW_TOKENS, QUESTIONS, assert_as_generated
from worker.chat.engine import ChatRequest

if TYPE_CHECKING:
    from worker.chat.checkpoint import LoadedModel

pytestmark = pytest.mark.parametrize("engine_name", REAL, indirect=True, scope="session")


def prompt(served: Served, text: str) -> list[int]:
    return served.engine.prompt_template.encode([{"role": "user", "content": text}])


def test_it_knows_the_capital_of_japan(served: Served) -> None:
    ids = prompt(served, QUESTIONS[0])
    served.recorder.run(served.engine, ChatRequest("a", ids, 40, temperature=0.0))
    assert "Tokyo" in served.recorder.text("a")
    assert served.recorder.ends("a")[0].finish_reason == "stop"


@pytest.fixture(scope="module")
def said_in_a_crowd(shared: Served) -> dict[str, str]:
    shared.recorder.run(shared.engine, *[greedy(shared, text) for text in QUESTIONS])
    return {text: shared.recorder.text(text) for text in QUESTIONS}


def greedy(served: Served, text: str) -> ChatRequest:
    return ChatRequest(text, prompt(served, text), NEW_TOKENS, temperature=0.0)


@pytest.mark.parametrize("text", QUESTIONS[:4])
def test_greedy_is_what_generate_says(
    served: Served, loaded: "LoadedModel", said_in_a_crowd: dict[str, str], text: str
) -> None:
    request = greedy(served, text)
    served.recorder.run(served.engine, request)
    assert_as_generated(loaded, request.prompt, [served.recorder.text(text), said_in_a_crowd[text]])


def test_a_seed_says_the_same_alone_and_in_a_crowd(served: Served) -> None:
    requests = [
        ChatRequest(text, prompt(served, text), 24, temperature=0.9, top_p=0.95, seed=n)
        for n, text in enumerate(QUESTIONS)
    ]
    served.recorder.run(served.engine, *requests)
    together = {text: served.recorder.text(text) for text in QUESTIONS}
    for request in requests[:3]:
        served.recorder.run(served.engine, request)
        assert served.recorder.text(request.id) == together[request.id]


def test_seeds_and_their_absence_differ(served: Served) -> None:
    ids = prompt(served, QUESTIONS[1])
    requests = [ChatRequest(str(n), ids, 16, seed=n if n < 4 else None) for n in range(8)]
    served.recorder.run(served.engine, *requests)
    assert len({served.recorder.text(str(n)) for n in range(8)}) == 8


def test_top_p_of_nearly_nothing_is_greedy(served: Served) -> None:
    ids = prompt(served, QUESTIONS[2])
    served.recorder.run(
        served.engine,
        ChatRequest("greedy", ids, 24, temperature=0.0),
        ChatRequest("narrow", ids, 24, temperature=1.5, top_p=1e-6, seed=5),
        ChatRequest("wide", ids, 24, temperature=1.5, seed=5),
    )
    assert served.recorder.text("narrow") == served.recorder.text("greedy") != served.recorder.text("wide")


def test_the_seed_that_vllm_takes_for_none_is_one_like_any_other(served: Served) -> None:
    ids = prompt(served, QUESTIONS[1])
    served.recorder.run(served.engine, *[ChatRequest(str(n), ids, 16, seed=-1) for n in range(2)])
    assert served.recorder.ids("0") == served.recorder.ids("1")
