"""Token counts: one parse a template version, and long counts beside other requests."""

import gevent
import pytest

from tests.support.web.webstack import CHAT, tiny_template
from webapi.services.token_counter import TokenCounter
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.ledger.registry import Registry
from worker.jobs.records import ModelCard
from worker.jobs.specs import Message


def test_token_counter_parses_a_template_once_a_version(ledger: Ledger) -> None:
    registry, messages = Registry(ledger), [Message(role="user", content="Hi")]
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
    registry, card = Registry(ledger), ModelCard("tiny", "chat", CHAT, 64, digest="1")
    registry.publish_model(card, tiny_template().to_json())
    other = gevent.spawn(lambda: None)
    TokenCounter(registry).count(card, [Message(role="user", content=content) for content in contents])
    assert other.ready()
