"""Token counts: one parse a template version, and long counts beside other requests."""

import threading
from typing import Any

import gevent
import pytest

from tests.support.web.webstack import CHAT, tiny_template
from webapi.services.token_counter import LONG_COUNTS, TokenCounter
from worker.jobs.cards import ModelCard
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.ledger.registry import Registry
from worker.jobs.prompt.template import PromptTemplate
from worker.jobs.specs import ChatJob, validate


def chat(*contents: str, **fields: Any) -> ChatJob:
    messages = [{"role": "user", "content": content} for content in contents]
    return validate(ChatJob, {"messages": messages, **fields})


def test_token_counter_parses_a_template_once_a_version(ledger: Ledger) -> None:
    registry, hi = Registry(ledger.store), chat("Hi")
    prompts = TokenCounter(registry)
    card = ModelCard("tiny", "chat", CHAT, 64, digest="1")
    registry.publish_model(card, tiny_template().to_json())
    assert prompts.count(card, hi) == len("<user>Hi")
    changed = tiny_template().to_json().replace("<{{", "<<{{")
    registry.publish_model(card, changed)
    assert prompts.count(card, hi) == len("<user>Hi")
    assert prompts.count(ModelCard("tiny", "chat", CHAT, 64, digest="2"), hi) == len("<<user>Hi")


@pytest.mark.parametrize("contents", [["H" * 5000], [""] * 5000])
def test_token_counter_counts_long_prompts_in_a_thread(ledger: Ledger, contents: list[str]) -> None:
    registry, card = Registry(ledger.store), ModelCard("tiny", "chat", CHAT, 64, digest="1")
    registry.publish_model(card, tiny_template().to_json())
    other = gevent.spawn(lambda: None)
    TokenCounter(registry).count(card, chat(*contents))
    assert other.ready()


CARD = ModelCard("tiny", "chat", CHAT, 64, digest="1")
LONG = chat("H" * 5000)


@pytest.fixture
def gate(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """An event for which the count of a long conversation waits."""
    Registry(ledger.store).publish_model(CARD, tiny_template().to_json())
    opened = threading.Event()

    def encode(_: PromptTemplate, job: ChatJob, context_length: int) -> list[int]:
        assert job.messages[0].content == "Hi" or opened.wait(10)
        return [0]

    monkeypatch.setattr(PromptTemplate, "encode_job", encode)
    return opened


def long_counts(counter: TokenCounter, gate: threading.Event, owners: str) -> int:
    """Start a long count of each owner, and return how many of them threads have taken.

    Meanwhile a short count must end.
    """
    started = [gevent.spawn(counter.count, CARD, LONG, owner) for owner in owners]
    gevent.sleep(0)
    taken = len(gevent.get_hub().threadpool)
    assert counter.count(CARD, chat("Hi"), owners[0]) == 1
    gate.set()
    assert [count.get(timeout=10) for count in started] == [1] * len(owners)
    return taken


def test_token_counter_counts_few_long_prompts_at_once(ledger: Ledger, gate: threading.Event) -> None:
    assert long_counts(TokenCounter(Registry(ledger.store)), gate, "abcdefg") == LONG_COUNTS


def test_token_counter_counts_one_long_prompt_of_an_owner_at_once(
    ledger: Ledger, gate: threading.Event
) -> None:
    assert long_counts(TokenCounter(Registry(ledger.store)), gate, "aaaa") == 1


TOOL = {"type": "function", "function": {"name": "f", "description": "H" * 5000}}
CALL = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "H" * 5000}}


def test_token_counter_lower_bound_counts_messages_and_bytes(ledger: Ledger) -> None:
    Registry(ledger.store).publish_model(CARD, tiny_template().to_json())
    counter = TokenCounter(Registry(ledger.store))
    assert counter.lower_bound(CARD, chat(*[""] * 70)) == 70
    assert counter.lower_bound(CARD, LONG) == 5000
    assert counter.lower_bound(CARD, chat("", tools=[TOOL])) > 5000
    assert counter.lower_bound(CARD, chat("", tools=[TOOL], tool_choice="none")) == 1
    called = {"messages": [{"role": "assistant", "tool_calls": [CALL]}]}
    assert counter.lower_bound(CARD, validate(ChatJob, called)) == 5000


def test_token_counter_lower_bound_of_truncated_prompt_is_its_limit(ledger: Ledger) -> None:
    Registry(ledger.store).publish_model(CARD, tiny_template().to_json())
    counter = TokenCounter(Registry(ledger.store))
    for limit, bound, tokens in ((3, 3, 3), (-1, 54, 54), (9000, 5000, len("<user>") + 5000)):
        job = chat("H" * 5000, truncate_prompt_tokens=limit, max_tokens=10)
        assert (counter.lower_bound(CARD, job), counter.count(CARD, job)) == (bound, tokens)


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [TOOL]},
        {"chat_template_kwargs": {"a": ["H" * 5000]}},
        {"messages": [{"role": "assistant", "content": "", "reasoning": "H" * 5000}]},
        {"messages": [{"role": "assistant", "tool_calls": [CALL]}]},
    ],
)
def test_token_counter_counts_conversations_with_long_parts_in_a_thread(fields: dict[str, Any]) -> None:
    short = {"messages": [{"role": "user", "content": "Hi"}]}
    assert TokenCounter.is_short(validate(ChatJob, short))
    assert not TokenCounter.is_short(validate(ChatJob, short | fields))
