"""Token counts: one parse a template version, and long counts beside other requests."""

import threading

import gevent
import pytest

from tests.support.web.webstack import CHAT, tiny_template
from webapi.services.token_counter import LONG_COUNTS, TokenCounter
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.ledger.registry import Registry
from worker.jobs.messages import Message
from worker.jobs.prompt import PromptTemplate
from worker.jobs.records import ModelCard


def test_token_counter_parses_a_template_once_a_version(ledger: Ledger) -> None:
    registry, messages = Registry(ledger.store), [Message(role="user", content="Hi")]
    prompts = TokenCounter(registry)
    card = ModelCard("tiny", "chat", CHAT, 64, digest="1")
    registry.publish_model(card, tiny_template().to_json())
    assert prompts.count(card, messages) == len("<user>Hi")
    changed = tiny_template().to_json().replace("<{{", "<<{{")
    registry.publish_model(card, changed)
    assert prompts.count(card, messages) == len("<user>Hi")
    assert prompts.count(ModelCard("tiny", "chat", CHAT, 64, digest="2"), messages) == len("<<user>Hi")


@pytest.mark.parametrize("contents", [["H" * 5000], [""] * 5000])
def test_token_counter_counts_long_prompts_in_a_thread(ledger: Ledger, contents: list[str]) -> None:
    registry, card = Registry(ledger.store), ModelCard("tiny", "chat", CHAT, 64, digest="1")
    registry.publish_model(card, tiny_template().to_json())
    other = gevent.spawn(lambda: None)
    TokenCounter(registry).count(card, [Message(role="user", content=content) for content in contents])
    assert other.ready()


CARD = ModelCard("tiny", "chat", CHAT, 64, digest="1")
LONG = [Message(role="user", content="H" * 5000)]


@pytest.fixture
def gate(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """An event for which the count of a long conversation waits."""
    Registry(ledger.store).publish_model(CARD, tiny_template().to_json())
    opened = threading.Event()

    def encode(_: PromptTemplate, messages: list[dict[str, str]]) -> list[int]:
        assert messages[0]["content"] == "Hi" or opened.wait(10)
        return [0]

    monkeypatch.setattr(PromptTemplate, "encode", encode)
    return opened


def long_counts(counter: TokenCounter, gate: threading.Event, owners: str) -> int:
    """Start a long count of each owner, and return how many of them threads have taken.

    Meanwhile a short count must end.
    """
    started = [gevent.spawn(counter.count, CARD, LONG, owner) for owner in owners]
    gevent.sleep(0)
    taken = len(gevent.get_hub().threadpool)
    assert counter.count(CARD, [Message(role="user", content="Hi")], owners[0]) == 1
    gate.set()
    assert [count.get(timeout=10) for count in started] == [1] * len(owners)
    return taken


def test_token_counter_counts_few_long_prompts_at_once(ledger: Ledger, gate: threading.Event) -> None:
    assert long_counts(TokenCounter(Registry(ledger.store)), gate, "abcdefg") == LONG_COUNTS


def test_token_counter_counts_one_long_prompt_of_an_owner_at_once(
    ledger: Ledger, gate: threading.Event
) -> None:
    assert long_counts(TokenCounter(Registry(ledger.store)), gate, "aaaa") == 1


def test_token_counter_lower_bound_counts_messages_and_bytes(ledger: Ledger) -> None:
    Registry(ledger.store).publish_model(CARD, tiny_template().to_json())
    counter, empty = TokenCounter(Registry(ledger.store)), Message(role="user", content="")
    assert counter.lower_bound(CARD, [empty] * 70) == 70
    assert counter.lower_bound(CARD, LONG) == 5000
