"""The warm-up of an API process: prompt templates, the script of a submit, and gevent."""

import subprocess
import sys
from dataclasses import replace

import pytest

from tests.support.web.webstack import CHAT, tiny_template
from webapi.services.backend import Backend
from webapi.services.warmup import ApiWarmUp
from worker.jobs.cards import ModelCard
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.ledger.registry import Registry
from worker.jobs.specs import ChatJob, validate

HELLO = validate(ChatJob, {"messages": [{"role": "user", "content": "Hi"}]})


def assert_warm(ledger: Ledger, card: ModelCard) -> None:
    """Check that a warm process counts the model's prompts without Redis."""
    backend = Backend.from_settings(ledger.store.settings)
    ApiWarmUp(backend).refresh()
    ledger.store.client.delete(ledger.store.key("model", card.name, "prompt"))
    assert backend.token_counter.count(card, HELLO) == len("<user>Hi")


def test_api_warmup_prepares_models(brokered: Ledger) -> None:
    card, registry = ModelCard("tiny", "chat", CHAT, 64, digest="1"), Registry(brokered.store)
    registry.publish_model(card, tiny_template().to_json())
    assert_warm(brokered, card)


def test_api_warmup_loads_the_script_of_a_submit(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = Backend.from_settings(ledger.store.settings)
    ApiWarmUp(backend).refresh()
    monkeypatch.setattr(backend.store.client, "script_load", None)
    assert backend.dispatcher.submit("a", CHAT, HELLO) == "a"


def test_api_warmup_skips_a_broken_model(brokered: Ledger) -> None:
    registry = Registry(brokered.store)
    registry.publish_model(ModelCard("broken", "chat", "chat.broken", 64, digest="1"), "{}")
    card = ModelCard("tiny", "chat", CHAT, 64, digest="1")
    registry.publish_model(card, tiny_template().to_json())
    assert_warm(brokered, card)


#: The sockets are gevent's, as under gunicorn. The program warms up several backends, because a reply that is
#: there at once needs no wait.
UNDER_GEVENT = """
from gevent import monkey; monkey.patch_all()
import sys
from webapi.services.backend import Backend
from webapi.services.warmup import ApiWarmUp
from worker.jobs.settings import Settings
backends = [Backend.from_settings(Settings.model_validate_json(sys.argv[1])) for _ in range(10)]
for backend in backends:
    ApiWarmUp(backend).refresh()
card, = backend.registry.models()
backend.ledger.store.client.delete(backend.ledger.store.key("model", card.name, "prompt"))
for backend in backends:
    backend.token_counter.prepare(card)
"""


def test_api_warmup_works_under_gevent(brokered: Ledger) -> None:
    template = tiny_template()
    long = replace(template, chat_template=template.chat_template + "{# " + 3_000_000 * "x" + " #}")
    Registry(brokered.store).publish_model(ModelCard("tiny", "chat", CHAT, 64, digest="1"), long.to_json())
    program = [sys.executable, "-c", UNDER_GEVENT, brokered.store.settings.model_dump_json()]
    subprocess.run(program, check=True, timeout=60)
