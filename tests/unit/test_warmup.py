from tests.integration.webstack import CHAT, tiny_template
from webapi.backend import Backend
from webapi.warmup import WarmUp
from worker.jobs import broker
from worker.jobs.ledger import Ledger
from worker.jobs.records import ModelCard
from worker.jobs.registry import Registry
from worker.jobs.specs import Message


def assert_warm(ledger: Ledger, card: ModelCard) -> None:
    """Its prompts are counted without another look at Redis."""
    stoker = Backend.of(ledger.settings)
    WarmUp(stoker).look()
    ledger.redis.delete(ledger.key("model", card.name, "prompt"))
    assert stoker.prompts.count(card, [Message(role="user", content="Hi")]) == len("<user>Hi")


def test_what_the_first_client_needs_is_there_before_it_comes(brokered: Ledger) -> None:
    card, registry = ModelCard("tiny", "chat", CHAT, 64, digest="1"), Registry(brokered)
    registry.publish_model(card, tiny_template().to_json())
    assert_warm(brokered, card)
    with broker.app.producer_or_acquire() as producer:
        assert producer.connection.connected


def test_a_model_that_cannot_be_prepared_keeps_no_other_from_being(brokered: Ledger) -> None:
    registry = Registry(brokered)
    registry.publish_model(ModelCard("broken", "chat", "chat.broken", 64, digest="1"), "{}")
    card = ModelCard("tiny", "chat", CHAT, 64, digest="1")
    registry.publish_model(card, tiny_template().to_json())
    assert_warm(brokered, card)
